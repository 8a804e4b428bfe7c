"""`make gpu`: everything that only a GPU can settle, in one command of a few minutes, on a bare checkout."""
