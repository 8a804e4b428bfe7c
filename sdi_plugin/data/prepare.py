"""Check a source completely, then write it in one of the layouts, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sdi_plugin import files, memory
from sdi_plugin.data.catalogue import DATASETS, Dataset
from sdi_plugin.data.errors import DataError, WriteError
from sdi_plugin.data.recognise import Found, recognise
from sdi_plugin.data.source import Source
from sdi_plugin.data.splits import Chosen, choose
from sdi_plugin.version import __version__

if TYPE_CHECKING:
    from sdi_plugin.data.output import Item

_THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")
InThreads = Callable[[Callable[[Any], Any], Iterable[Any], str], list[Any]]
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote.

    Attributes:
        folder: the new one.
        dataset: what the catalogue says about the data set, including the number of images in its official release.
        images: the number of pairs in the folder.
        splits: {name: number of ids} for the lists in splits/, for nnU-Net only the chosen ones.
        left_out: with skip_bad, what was wrong with the pairs that are not there, one line each.
        notes: what is worth checking, one line each.

    Examples:
        >>> from sdi_plugin import data
        >>> written = data.prepare("isic2018", "Downloads/isic2018", "prepared/plain")
        >>> written.images == sum(written.splits.values())
        True
    """

    folder: Path
    dataset: Dataset
    images: int
    splits: dict[str, int]
    left_out: list[str]
    notes: list[str]


def prepare(
    name: str,
    source: str | Path,
    out: str | Path,
    layout: str = "plain",
    size: int | None = None,
    splits: str | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Check a downloaded data set, and write it in a layout that a framework reads.

    Args:
        name: a key of `DATASETS`.
        source: the download, a folder or a zip archive; nothing is unpacked.
        out: the folder to create; it must not exist. For nnU-Net its name is DatasetNNN_Name.
        layout: "plain" (images/, masks/, splits/), "mmseg" (img_dir/, ann_dir/, splits/) or "nnunet" (imagesTr/,
            labelsTr/, imagesTs/, labelsTs/); each contains dataset.json.
        size: side in pixels to which images (bilinear) and masks (nearest) are resized, or None.
        splits: the family of splits, such as "pranet", that becomes nnU-Net's training and test cases.
        skip_bad: leave out what fails a check, instead of stopping.
        progress: a function of the items, a label and their number that returns the items and shows progress over them,
            as tqdm does.

    Convention:
        Masks are written as 0 and 1, whatever the source has; images and masks are turned as their EXIF orientation
        says. The folder appears whole at the end.

    Raises:
        DataError: wrong arguments, or a source that is not recognised or fails a check. Then nothing is written.
        ValueError: images of that size do not fit into the memory.
        WriteError: a full disk, or another reason why `out` cannot be written.
        ImportError: Pillow or numpy is not installed.

    Examples:
        >>> from sdi_plugin import data
        >>> data.DATASETS["isic2018"].images
        3694
        >>> written = data.prepare("isic2018", "Downloads/isic2018", "prepared/isic2018", layout="mmseg", size=512)
        >>> (written.folder / "img_dir").is_dir()
        True
    """
    try:
        from sdi_plugin.data import check, output
    except ImportError as error:
        raise ImportError(
            f"Data sets need Pillow and numpy ({error}). Install them: pip install 'sdi-plugin[smp]'"
        ) from error
    dataset = _dataset(name)
    out = Path(os.path.abspath(out))
    output.check_out(layout, out)
    if os.path.lexists(out):
        raise DataError(f"expected a new folder to write, but {out} exists. Remove it, or choose another.")
    if size is not None and size < 1:
        raise DataError(f"expected a size of at least 1, got {size}.")
    if size is not None:
        memory.check(_THREADS * size * size * 3, f"writing images of {size} x {size}")
    if splits is not None and layout != "nnunet":
        raise DataError("A family of splits goes with the layout nnunet only: the other layouts keep every split.")
    in_threads = _in_threads(progress or _silent)
    with Source(Path(source)) as opened:
        found = recognise(dataset, opened)
        inspections, problems = check.inspect_all(opened, found, in_threads)
        notes = check.refuse(dataset, opened, inspections, problems, skip_bad)
        kept = {split: [id_ for id_ in ids if id_ in inspections] for split, ids in found.splits.items()}
        chosen = _choose(kept, splits, sorted(inspections), notes) if layout == "nnunet" else None
        items = output.plan(layout, {id_: seen.jpeg for id_, seen in inspections.items()}, size, chosen)
        if chosen:
            kept = dict(zip(("train", "val", "test"), chosen, strict=True))
            kept = {split: ids for split, ids in kept.items() if ids}
        counts = {split: len(ids) for split, ids in kept.items()}
        with _writing(out), files.folder(out) as partial:
            emptied = _write(opened, found, partial, items, size, in_threads)
            description = _description(dataset, layout, found.layout, size, len(items), counts)
            output.write_description(partial, layout, description, kept, items, chosen)
    if lost := [id_ for id_ in emptied if not inspections[id_].empty]:
        notes.append(f"{len(lost)} masks lost all foreground at {size} x {size} pixels: {check.first(lost)}")
    return Prepared(out, dataset, len(items), counts, problems, notes)


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise DataError(f"expected one of {', '.join(DATASETS)}, got {name!r}. `sdi-plugin data list` describes them.")
    return DATASETS[name]


def _choose(kept: dict[str, list[str]], family: str | None, ids: list[str], notes: list[str]) -> Chosen:
    fallback: Chosen = ([], [], [])
    chosen = choose(kept, family, fallback)
    if chosen is fallback:
        notes.append("no training and test split: all images become training cases")
        return ids, [], []
    left_over = len(ids) - sum(map(len, chosen))
    if left_over:
        notes.append(f"{left_over} images are in none of the chosen splits: left out")
    return chosen


def _write(
    source: Source, found: Found, folder: Path, items: list[Item], size: int | None, in_threads: InThreads
) -> list[str]:
    """Write all pairs. Returns the ids whose masks hold no foreground as they were written."""
    from sdi_plugin.data import output

    for part in {Path(path).parent for item in items for path in (item.image, item.mask)}:
        (folder / part).mkdir(exist_ok=True)

    def write(item: Item) -> bool:
        image = source.read(found.images[item.id])
        if item.copy:
            (folder / item.image).write_bytes(image)
        else:
            output.write_rgb(image, folder / item.image, size)
        return output.write_mask(source.read(found.masks[item.id]), folder / item.mask, size)

    has_foreground = in_threads(write, items, "write")
    return [item.id for item, there in zip(items, has_foreground, strict=True) if not there]


def _description(
    dataset: Dataset, layout: str, source_layout: str, size: int | None, images: int, counts: dict[str, int]
) -> dict[str, Any]:
    return {
        **{key: getattr(dataset, key) for key in ("name", "title", "licence", "url", "citation")},
        "classes": ["background", dataset.target],
        "layout": layout,
        "source_layout": source_layout,
        "size": size,
        "images": images,
        "splits": counts,
        "sdi_plugin_version": __version__,
    }


def _in_threads(progress: Progress) -> InThreads:
    """[function(item) for item in items] with progress; Pillow and zlib work outside Python's lock."""

    def run(function: Callable[[T], R], items: Iterable[T], label: str) -> list[R]:
        items = list(items)
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                return list(progress(pool.map(function, items), label, len(items)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # otherwise Ctrl-C would wait for the whole queue
                raise

    return run


def _silent(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
    return items


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"writing {out} failed: {error}. Nothing was left behind; free some disk space and try again."
        ) from error
