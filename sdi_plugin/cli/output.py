"""What a command prints once its work is done."""

import os
import sys


def report(text: str) -> None:
    """Print to stdout, escaping what a terminal would obey or cannot show. A closed pipe does not undo the work."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    try:
        print(shown.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        # Python flushes again on exit, and would then exit with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"sdi-plugin: done, but stdout cannot be written: {error.strerror}", file=sys.stderr)
