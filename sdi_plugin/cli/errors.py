"""The one exception that a command raises for a user's mistake."""


class CommandError(Exception):
    """What was expected, what came, and the cure; main prints it in one line and exits with 2."""
