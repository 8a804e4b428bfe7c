"""What can go wrong with a data set."""

from collections.abc import Sequence


class DataError(ValueError):
    """A source, a file or an argument that cannot be used, and the cure. Nothing was written.

    Attributes:
        problems: all that is wrong with the pairs, one line each, where the message counts them.

    Examples:
        >>> from sdi_plugin import data
        >>> try:
        ...     data.prepare("isic2018", source="case.jpg", out="data/new")
        ... except data.DataError as error:
        ...     print(len(error.problems))
        0
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        super().__init__(message)
        self.problems = list(problems)


class WriteError(OSError):
    """The output could not be written, and nothing of it was left behind.

    Examples:
        >>> from sdi_plugin import data
        >>> try:
        ...     data.prepare("isic2018", source="Downloads/isic2018", out="case.jpg/new")
        ... except (data.WriteError, data.DataError):
        ...     print("nothing was written")
        nothing was written
    """
