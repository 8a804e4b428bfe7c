"""Refuse an unsupported torch when the package is imported: in a millisecond, without importing torch."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

OLDEST = (2, 4)


def check() -> None:
    """Raise an ImportError if the installed torch is older than `OLDEST`; none at all is no error here."""
    version = _installed()
    try:
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:  # not installed, or a version of another kind
        return
    if numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise ImportError(
            f"sdi_plugin: expected torch >={wanted}, got {version}. Install a supported version: "
            f"pip install 'torch>={wanted}'"
        )


def _installed() -> str:
    """What torch/version.py says; the empty string where there is none."""
    spec = None if "torch" in sys.modules and sys.modules["torch"] is None else PathFinder.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if file is None or not file.is_file():
        return ""
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((line.split("=")[1].strip(" '\"") for line in lines if line.startswith("__version__ =")), "")
