"""What can go wrong with a data set."""

from collections.abc import Sequence


class DataError(ValueError):
    """A source, a file or an argument that cannot be used, and the cure. Nothing was written.

    Attributes:
        problems: everything that is wrong with the pairs, one line each, where the message counts them.

    Examples:
        >>> from sdi_plugin import data
        >>> data.prepare("isic", "Downloads/isic2018", "prepared/isic2018")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        sdi_plugin.data.errors.DataError: expected one of kvasir, ... got 'isic'. `sdi-plugin data list` describes them.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        super().__init__(message)
        self.problems = list(problems)


class WriteError(OSError):
    """The output could not be written, and nothing of it was left behind.

    Examples:
        >>> from sdi_plugin import data
        >>> try:
        ...     written = data.prepare("isic2018", "Downloads/isic2018", "prepared/again")
        ... except data.WriteError as error:
        ...     print(error)
    """
