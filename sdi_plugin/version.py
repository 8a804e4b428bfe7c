"""The only place that states the version. Without imports, so that a build reads it without torch."""

__version__ = "0.1.0"
