"""Faults, fuzzing, soak and numerics: minutes in CI, as long as wished by `make faults`, `make fuzz`, `make soak`."""
