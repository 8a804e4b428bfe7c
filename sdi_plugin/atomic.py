"""Files that appear complete or not at all."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Put data on the disk beside path, then give it its name: a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.partial")  # one fixed name: the next write replaces what a kill left
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
