"""Benchmarks of sdi_plugin: run from a checkout, not part of the wheel. README.md states the contract."""
