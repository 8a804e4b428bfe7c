"""Benchmarks of sdi_plugin: run them from a checkout, they are not part of the wheel. README.md is the contract."""
