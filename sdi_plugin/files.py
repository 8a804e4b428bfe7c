"""Files and folders that appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_OURS = ".sdi-plugin"  # marks a folder that `folder` is writing


def write(path: Path, data: bytes) -> None:
    """Write data to a file beside path, then rename it: a killed process leaves the old file or the new one."""
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A hidden file beside path, to write into. At the end it becomes path; on any error or Ctrl-C it is removed."""
    temporary = _beside(path)
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # "x": always a new file, never the target of a link
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except FileExistsError:
        raise  # another process has created it: it is not ours to remove
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def folder(path: Path, *, into: bool = False) -> Iterator[Path]:
    """A hidden folder beside path, to write into. At the end it becomes path; on any error or Ctrl-C it is removed.

    If a process is killed, the next call removes what it left. A folder or link of that name that this function did not
    make is an error, and is left as it is.

    Args:
        into: if path is an existing folder, move the new files into it, each in one step, and keep its other files.

    Raises:
        OSError: the folder cannot be made or renamed.
    """
    partial = _beside(path)
    if not partial.is_symlink() and (partial / _OURS).is_file():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        (partial / _OURS).touch()
        yield partial
        if into and path.is_dir():
            for file in partial.iterdir():
                if file.name != _OURS:
                    os.replace(file, path / file.name)
            shutil.rmtree(partial)
        else:
            (partial / _OURS).unlink()
            os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")  # fixed, so that the next call finds what a killed process left
