"""`sdi-plugin data prepare`: check a source completely, then write it in one of the layouts, all or nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sdi_plugin import files
from sdi_plugin.cli import memory
from sdi_plugin.cli.data import layouts, splits
from sdi_plugin.cli.data.catalogue import DATASETS, Dataset
from sdi_plugin.cli.data.pairing import Found, recognise
from sdi_plugin.cli.data.sources import Source
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.version import __version__

try:
    from tqdm import tqdm

    from sdi_plugin.cli.data import images, masks
except ImportError as error:
    raise ImportError(
        f"data prepare needs Pillow and tqdm ({error}). Install them: pip install 'sdi-plugin[smp]'"
    ) from error

_SHOWN = 50  # problems, where they are errors
_THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")


def prepare(
    name: str,
    source: str | Path,
    out: str | Path,
    layout: str = "plain",
    size: int | None = None,
    family: str | None = None,
    skip_bad: bool = False,
) -> str:
    """Prepare one data set and return a line that says what was written.

    Args:
        name: a key of catalogue.DATASETS.
        source: a folder or zip archive, see sources.Source.
        out: the folder to make; it must not exist.
        layout: plain, mmseg or nnunet.
        size: side to which images and masks are resized, or None.
        family: which splits become nnU-Net's training and test cases (nnunet only).
        skip_bad: leave out what fails a check, instead of stopping.

    Raises:
        CommandError: wrong arguments, a source that is not recognised or fails a check, or a full disk. Then nothing is
            written.
    """
    dataset = _dataset(name)
    out = Path(os.path.abspath(out))
    layouts.check_out(layout, out)
    if os.path.lexists(out):
        raise CommandError(f"expected --out to be a new folder, but {out} exists. Remove it, or choose another.")
    if size is not None and size < 1:
        raise CommandError(f"expected --size to be at least 1, got {size}.")
    if size is not None:
        memory.check(_THREADS * size * size * 3, f"writing images of {size} x {size}")
    if family is not None and layout != "nnunet":
        raise CommandError("--splits goes with --layout nnunet only: the other layouts keep every split.")
    with Source(Path(source)) as opened:
        found = recognise(dataset, opened)
        inspections = _check(dataset, opened, found, skip_bad)
        kept = {split: [id_ for id_ in ids if id_ in inspections] for split, ids in found.splits.items()}
        chosen = _choose(kept, family, sorted(inspections)) if layout == "nnunet" else None
        items = layouts.plan(layout, {id_: seen.jpeg for id_, seen in inspections.items()}, size, chosen)
        if chosen:
            kept = dict(zip(("train", "val", "test"), chosen, strict=True))
            kept = {split: ids for split, ids in kept.items() if ids}
        counts = {split: len(ids) for split, ids in kept.items()}
        description = {
            **{key: getattr(dataset, key) for key in ("name", "title", "licence", "url", "citation")},
            "classes": ["background", dataset.target],
            "layout": layout,
            "source_layout": found.layout,
            "size": size,
            "images": len(items),
            "splits": counts,
            "sdi_plugin_version": __version__,
        }
        with _written(out), files.folder(out) as partial:
            for folder in {Path(path).parent for item in items for path in (item.image, item.mask)}:
                (partial / folder).mkdir(exist_ok=True)

            def write(item: layouts.Item) -> bool:
                image = opened.read(found.images[item.id])
                if item.copy:
                    (partial / item.image).write_bytes(image)
                else:
                    images.write_rgb(image, partial / item.image, size)
                kept_foreground = images.write_mask(opened.read(found.masks[item.id]), partial / item.mask, size)
                return kept_foreground or inspections[item.id].empty

            fine = _in_threads(write, items, "write")
            layouts.write_description(partial, layout, description, kept, items, chosen)
    lost = [item.id for item, is_fine in zip(items, fine, strict=True) if not is_fine]
    if lost:
        print(f"{len(lost)} masks lost all foreground at --size {size}: {_first(lost)}", file=sys.stderr)
    listed = ", ".join(f"{split} {count}" for split, count in counts.items())
    return f"{dataset.name}: {len(items)} of {dataset.images} images ({listed}) in {out}"


def _first(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (" ..." if len(ids) > 5 else "")


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise CommandError(
            f"expected one of {', '.join(DATASETS)}, got {name!r}. `sdi-plugin data list` describes them."
        )
    return DATASETS[name]


def _check(dataset: Dataset, source: Source, found: Found, skip_bad: bool) -> dict[str, images.Inspection]:
    """The inspections of all good pairs, by id. Every problem is printed; without skip_bad one of them is an error."""
    paired = sorted(found.images.keys() & found.masks.keys())
    problems = []
    for id_ in sorted(found.images.keys() - found.masks.keys()):
        looked_for = " or ".join(re.sub(r"\{\w+\}", id_, pattern) for pattern in found.mask_patterns)
        problems.append(f"{id_}: missing mask (looked for {looked_for})")
    for id_ in sorted(found.masks.keys() - found.images.keys()):
        problems.append(f"{id_}: mask without image ({found.masks[id_]})")

    def inspect(id_: str) -> images.Inspection:
        try:
            image, mask = source.read(found.images[id_]), source.read(found.masks[id_])
        except Exception as error:  # a damaged archive raises BadZipFile, zlib.error, EOFError ...
            return images.Inspection(f"unreadable file: {error}")
        return images.inspect(image, mask)

    inspections = dict(zip(paired, _in_threads(inspect, paired, "check"), strict=True))
    bad = {id_: seen.problem for id_, seen in inspections.items() if seen.problem}
    bad |= masks.disagreeing({id_: seen.scale for id_, seen in inspections.items() if id_ not in bad})
    problems += [f"{id_}: {problem}" for id_, problem in sorted(bad.items())]
    for split, ids in found.splits.items():
        problems += [f"{id_}: in split {split}, but there is no such image" for id_ in ids if id_ not in found.images]
    shown = len(problems) if skip_bad else _SHOWN  # what is left out is told completely
    for problem in problems[:shown]:
        print(f"{'left out: ' if skip_bad else ''}{problem}", file=sys.stderr)
    if problems[shown:]:
        print(f"... and {len(problems) - shown} more", file=sys.stderr)
    good = {id_: seen for id_, seen in inspections.items() if id_ not in bad}
    if problems and not skip_bad:
        raise CommandError(
            f"{len(problems)} problem(s) in {source.path}, listed above; nothing was written. Repair the source, or "
            "leave them out with --skip-bad."
        )
    if not good:
        raise CommandError(f"no good pair of image and mask of {dataset.name} in {source.path}; nothing was written.")
    masks.check_not_all_empty([seen.empty for seen in good.values()], f"{source.path}; nothing was written")
    turned = [id_ for id_, seen in good.items() if seen.turned]
    if turned:
        print(
            f"{len(turned)} pairs have an EXIF orientation in one file and another or none in the other. Applied; see "
            f"whether they fit: {_first(turned)}",
            file=sys.stderr,
        )
    return good


def _choose(kept: dict[str, list[str]], family: str | None, ids: list[str]) -> splits.Chosen:
    fallback: splits.Chosen = ([], [], [])
    chosen = splits.choose(kept, family, fallback)
    if chosen is fallback:
        print("no training and test split: all images become training cases", file=sys.stderr)
        return ids, [], []
    left_over = len(ids) - sum(map(len, chosen))
    if left_over:
        print(f"{left_over} images are in none of the chosen splits: left out", file=sys.stderr)
    return chosen


def _in_threads(function: Callable[[T], R], items: Iterable[T], label: str) -> list[R]:
    """[function(item) for item in items] with a progress bar; Pillow and zlib work outside Python's lock."""
    items = list(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(tqdm(pool.map(function, items), label, len(items), unit="image", disable=None))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # or Ctrl-C would wait for the whole queue
            raise


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"writing {out} failed: {error}. Nothing was left behind; free the place and try again."
        ) from error
