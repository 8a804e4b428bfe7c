"""Thin adapters, one folder for each framework: import the one you train with."""
