"""The one place that states the version: no import, so that a build reads it without torch."""

__version__ = "0.1.0"
