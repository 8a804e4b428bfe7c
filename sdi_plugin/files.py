"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OURS = ".sdi-plugin"  # in a folder that is being written


def write(path: Path, data: bytes) -> None:
    """Put data on the disk beside path, then give it its name: a kill leaves the old file or the new one."""
    temporary = _beside(path)
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # a new file: never what a link of that name points to
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except FileExistsError:
        raise  # another process put it there meanwhile
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def folder(path: Path, *, into: bool = False) -> Iterator[Path]:
    """A hidden folder beside path, to write into, that becomes path at the end, and is removed on any error or Ctrl-C.

    What a kill left there is removed by the next call; a folder or link that is not of this function's making is an
    error and stays.

    Args:
        into: whether a folder that is at path already gets the new files, each in one step, beside its own.

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
    return path.with_name(f".{path.name}.partial")  # one fixed name: the next call replaces what a kill left
