"""Files that appear complete or not at all."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Put data on the disk beside path, then give it its name: a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.partial")  # one fixed name: the next write replaces what a kill left
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
