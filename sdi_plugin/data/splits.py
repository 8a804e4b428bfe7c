"""Reading splits, and choosing the training, validation and test lists among them.

A split is a text file with one id per line. Splits that belong together form a family: `pranet_train` and `pranet_test`
are the family `pranet`; `train`, `val` and `test` are the family named by the empty text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sdi_plugin.data.errors import DataError

Chosen = tuple[list[str], list[str], list[str]]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def read(folder: str | Path) -> dict[str, list[str]]:
    """The splits of a data set in the plain or mmseg layout: {name: ids} of every `folder/splits/*.txt`."""
    return {path.stem: parse(path.read_bytes(), path.name) for path in sorted(Path(folder, "splits").glob("*.txt"))}


def parse(content: bytes, name: str) -> list[str]:
    """The ids of one split file, each once; an image's suffix after an id is dropped.

    Raises:
        DataError: not UTF-8 text, or an id that cannot name a file.
    """
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text with one id per line in {name}, got other bytes ({error}).") from error
    ids = []
    for line in map(str.strip, lines):
        suffix = Path(line).suffix
        ids.append(line[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else line)
    return [check_id(id_, f"the split {name}") for id_ in dict.fromkeys(ids) if id_]


def check_id(id_: str, where: str) -> str:
    """Return `id_`, or raise DataError where it could lead outside a folder or is not a portable file name."""
    if not id_ or id_.startswith(".") or id_ != id_.strip() or re.search(r'[/\\:*?"<>|\x00-\x1f]', id_):
        raise DataError(f"expected plain file names as ids in {where}, got {id_!r}. Rename it, or remove it.")
    return id_


def families(splits: Mapping[str, list[str]] | str | Path) -> dict[str, dict[str, list[str]]]:
    """{family: {"train" | "val" | "test": ids}} of `splits`, or of the data set in the folder of that name."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, ids in (splits if isinstance(splits, Mapping) else read(splits)).items():
        match = re.fullmatch(r"(?:(.*)_)?(train|val|test)", name)
        if match and ids:
            found.setdefault(match[1] or "", {})[match[2]] = ids
    return found


def choose(splits: Mapping[str, list[str]], family: str | None = None, fallback: Chosen | None = None) -> Chosen:
    """The (training, validation, test) ids of one family; validation may be empty.

    Without `family`: of those that have a training and a test or validation split, the one without a name, else
    pranet, else one whose name starts with official, else the first by name. Without a test split, the validation split
    is the test. Where there is no such family, `fallback` is returned.

    Raises:
        DataError: no such family (and no fallback), or one whose lists share ids.
    """
    usable = {
        name: parts
        for name, parts in families(splits).items()
        if "train" in parts and ("test" in parts or "val" in parts)
    }
    if family is None and not usable and fallback is not None:
        return fallback
    if family not in usable if family is not None else not usable:
        wanted = "a training and a test (or validation) split" if family is None else f"the splits of {family!r}"
        there = ", ".join(sorted(splits)) or "none"
        known = ", ".join(repr(name) for name in sorted(usable)) or "none"
        raise DataError(
            f"expected {wanted}, found the splits {there} (families: {known}). Add splits/train.txt and "
            "splits/test.txt with one id per line, or name one of the families."
        )
    if family is None:
        family = min(usable, key=_preference)
    parts = usable[family]
    train, val, test = parts["train"], parts.get("val", []), parts.get("test", [])
    if not test:
        val, test = [], val
    shared = (set(train) & set(val)) | (set(train) & set(test)) | (set(val) & set(test))
    if shared:
        raise DataError(
            f"expected separate training, validation and test splits, but {len(shared)} ids of the family {family!r} "
            f"are in two of them (such as {min(shared)!r}). Repair the split files, or name another family."
        )
    return list(train), list(val), list(test)


def _preference(family: str) -> tuple[int, str]:
    if family in ("", "pranet"):
        return ("", "pranet").index(family), family
    return (2 if family.startswith("official") else 3), family
