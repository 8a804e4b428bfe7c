"""Thin adapters, one folder per framework: import the one you train with."""
