"""What can go wrong with a data set."""

from collections.abc import Sequence


class DataError(ValueError):
    """A source, a file or an argument that cannot be used, and the cure. Nothing was written.

    Attributes:
        problems: all that is wrong with the pairs, one line each, where the message counts them.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        super().__init__(message)
        self.problems = list(problems)


class WriteError(OSError):
    """The output could not be written, and nothing of it was left behind."""
