"""Which of a source's files are the images, the masks and the splits of one data set."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sdi_plugin.data import splits
from sdi_plugin.data.catalogue import Dataset, Layout
from sdi_plugin.data.errors import DataError
from sdi_plugin.data.source import Source, is_other_archive

_TOKENS = {"id": r"[^/]+", "number": r"\d+", "cju": r"cju[^/]+", "isic": r"ISIC_\d+", "imd": r"IMD\d+"}
_SUFFIX = "(?:" + "|".join(re.escape(suffix) for suffix in splits.IMAGE_SUFFIXES) + ")"
_PLAIN = "images/{id} with masks/{id} or masks/{id}_segmentation, and splits/*.txt"


@dataclass
class Found:
    """What a source holds of a data set: files by id, splits by name."""

    layout: str
    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    mask_patterns: tuple[str, ...] = ()

    def add(self, kind: str, id_: str, name: str) -> None:
        files = self.images if kind == "image" else self.masks
        splits.check_id(id_, "the source")
        if id_ in files:
            raise DataError(
                f"expected one {kind} for each id, got two for {id_!r}: {files[id_]} and {name}. "
                "Remove one, or pass a folder with one copy of the data set as the source."
            )
        files[id_] = name


def recognise(dataset: Dataset, source: Source) -> Found:
    """Find the data set in a source: the known layout with the most images, else the plain layout.

    Raises:
        DataError: nothing recognised, two files for one id, or ids that are not file names.
    """
    names = sorted(source)
    counts = [
        len({id_ for part in layout.parts for id_, _ in _matches(part.images, names)}) for layout in dataset.layouts
    ]
    if any(counts):
        found = _from_layout(dataset.layouts[counts.index(max(counts))], names)
    else:
        root = _plain_root(dataset, names)
        if root is None:
            raise DataError(_nothing_found(dataset, source, names))
        found = _from_plain(root, names)
    _add_split_files(found, source, names)
    if not found.splits:
        found.splits["all"] = sorted(found.images)
    return found


def plain_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """{id: (image, mask)} of a folder in the plain layout.

    Raises:
        DataError: no images/ and masks/ there; images without a mask; two files for one id.
    """
    names = [path.relative_to(folder).as_posix() for kind in ("images", "masks") for path in folder.glob(f"{kind}/*")]
    found = _from_plain("", names)
    if not found.images:
        raise DataError(f"expected images/ and masks/ in {folder}, found no images there.")
    missing = sorted(found.images.keys() - found.masks.keys())
    if missing:
        raise DataError(f"{len(missing)} images of {folder} have no mask: {', '.join(missing[:5])} ... Add them.")
    return {id_: (folder / name, folder / found.masks[id_]) for id_, name in sorted(found.images.items())}


def _matches(pattern: str, names: list[str]) -> list[tuple[str, str]]:
    """(id, name) of the files that a pattern of catalogue.py names."""
    regex = ""
    for text, token in re.findall(r"([^{]*)(?:\{(\w+)\})?", pattern):
        regex += re.escape(text).replace(r"\*", "[^/]*")
        if token:
            regex += "(?P=id)" if "(?P<id>" in regex else f"(?P<id>{_TOKENS[token]})"
    compiled = re.compile(f"(?:.*/)?{regex}{_SUFFIX}", re.IGNORECASE)
    return [(match["id"], name) for name in names if (match := compiled.fullmatch(name))]


def _from_layout(layout: Layout, names: list[str]) -> Found:
    found = Found(layout.name)
    patterns = []
    for part in layout.parts:
        images = _matches(part.images, names)
        for id_, name in images:
            found.add("image", id_, name)
        for id_, name in _matches(part.masks, names):
            found.add("mask", id_, name)
        if images:
            patterns.append(part.masks)
        if images and part.split:
            found.splits.setdefault(part.split, []).extend(id_ for id_, _ in images)
    found.mask_patterns = tuple(patterns)
    return found


def _plain_root(dataset: Dataset, names: list[str]) -> str | None:
    """The folder that holds images/ and masks/; of several, the one named after the data set."""
    folders = {str(PurePosixPath(name).parent) for name in names}
    roots = sorted(folder[: -len("/images")] for folder in folders if folder.endswith("/images"))
    roots = [root for root in roots if f"{root}/masks" in folders]
    if len(roots) > 1:
        named = [root for root in roots if PurePosixPath(root).name.lower() == dataset.name]
        if len(named) != 1:
            raise DataError(
                f"expected one data set, found {len(roots)} folders with images/ and masks/: {', '.join(roots[:5])}. "
                "Pass one of them as the source."
            )
        roots = named
    return roots[0] if roots else None


def _from_plain(root: str, names: list[str]) -> Found:
    found = Found("plain", mask_patterns=("masks/{id}", "masks/{id}_segmentation"))
    files = [PurePosixPath(name) for name in names if name.lower().endswith(splits.IMAGE_SUFFIXES)]
    for path in files:
        if path.parent == PurePosixPath(root, "images"):
            found.add("image", path.stem, str(path))
    for path in files:
        if path.parent == PurePosixPath(root, "masks"):
            bare = re.sub("_segmentation$", "", path.stem, flags=re.IGNORECASE)
            found.add("mask", path.stem if path.stem in found.images else bare, str(path))
    return found


def _add_split_files(found: Found, source: Source, names: list[str]) -> None:
    """Add splits/*.txt beside the images' folder, and train.txt, val.txt, test.txt there or at the source's top."""
    roots = {str(PurePosixPath(name).parent.parent) for name in found.images.values()} | {source.top}
    for path in (PurePosixPath(name) for name in names if name.lower().endswith(".txt")):
        listed = path.parent.name == "splits" and str(path.parent.parent) in roots
        official = str(path.parent) in roots and path.stem in ("train", "val", "test")
        if listed or official:
            name = splits.check_id(path.stem, "the names of the split files")
            try:
                content = source.read(str(path))
            except Exception as error:  # a damaged archive raises BadZipFile, zlib.error, EOFError ...
                raise DataError(f"expected a split in {path}, got an unreadable file ({error}). Repair it.") from error
            found.splits.setdefault(name, splits.parse(content, str(path)))


def _nothing_found(dataset: Dataset, source: Source, names: list[str]) -> str:
    looked_for = [f"{part.images} with {part.masks}" for layout in dataset.layouts for part in layout.parts]
    message = (
        f"no images of {dataset.name} among the {len(names)} files of {source.path}. Looked for "
        f"{'; '.join([*looked_for, _PLAIN])} (any folders before, any image suffix)."
    )
    packed = [name for name in names if is_other_archive(name) or name.lower().endswith(".zip")]
    if packed:
        return f"{message} Unpack these first: {', '.join(packed[:5])}."
    return f"{message} Download it from {dataset.url}, or pass its folder as the source."
