"""`sdi-plugin data list | prepare`: public data sets, from the official downloads to folders ready for training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

_SHOWN = 50  # problems, where they are errors; what is left out is listed in full

_LIST_EXAMPLE = """example:
  sdi-plugin data list
  sdi-plugin data list --json
"""

_PREPARE_EXAMPLE = """example:
  sdi-plugin data prepare kvasir --source kvasir-seg.zip --out data/kvasir
  sdi-plugin data prepare isic2018 --source downloads/ --out data/isic2018 --layout mmseg --size 512
  sdi-plugin data prepare clinicdb --source PraNet/ --out nnUNet_raw/Dataset102_ClinicDB --layout nnunet

Download the data set from its official page first (`sdi-plugin data list`). The source may be one zip archive, or a
folder with archives or unpacked files. Nothing is written unless every image has a readable mask of the same size, both
turned as their EXIF orientation says. Masks hold 0 and 1, or dark and bright values (above 127 is foreground), the same
in all files; colours, label maps of several classes and transparent pixels are errors that name the file.

layouts:
  plain   images/, masks/ (0 and 1), splits/*.txt, dataset.json
  mmseg   img_dir/, ann_dir/, splits/*.txt (ann_file='splits/train.txt'), dataset.json
  nnunet  imagesTr/, labelsTr/, imagesTs/, labelsTs/, dataset.json. Training and validation images are the training
          cases; splits/splits_final.json, where there is one, goes to nnUNet_preprocessed/DatasetNNN_Name (fold 0).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `data` with its commands; each sets `run`, a function of the parsed arguments."""
    data = subparsers.add_parser(
        "data",
        help="list and prepare public data sets",
        description="List public data sets, and prepare a downloaded one for training.",
        epilog=_LIST_EXAMPLE + "  sdi-plugin data prepare kvasir --source kvasir-seg.zip --out data/kvasir\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = data.add_subparsers(dest="data_command", metavar="COMMAND", required=True)

    listing = commands.add_parser(
        "list",
        help="name the data sets with size, licence and URL",
        description="Name the data sets that `data prepare` knows.",
        epilog=_LIST_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("--json", action="store_true", help="print everything, including citations, as JSON")
    listing.set_defaults(run=run_list)

    preparing = commands.add_parser(
        "prepare",
        help="check a downloaded data set and write it for training",
        description="Check a downloaded data set, and write it in a layout that a framework reads.",
        epilog=_PREPARE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    preparing.add_argument("name", metavar="NAME", help="one of `sdi-plugin data list`")
    preparing.add_argument("--source", required=True, metavar="DIR_OR_ZIP", help="the download, packed or unpacked")
    preparing.add_argument("--out", required=True, metavar="DIR", help="the folder to create; it must not exist")
    preparing.add_argument("--layout", choices=("plain", "mmseg", "nnunet"), default="plain", help="default: plain")
    preparing.add_argument("--size", type=int, metavar="N", help="resize to N x N (default: keep every size)")
    preparing.add_argument("--splits", metavar="FAMILY", help="nnunet: which splits to use, such as pranet")
    preparing.add_argument("--skip-bad", action="store_true", help="leave out what fails a check, and continue")
    preparing.set_defaults(run=run_prepare)


def run_list(args: argparse.Namespace) -> None:
    """Print what each data set is, or with --json the whole catalogue."""
    import json
    from dataclasses import asdict

    from sdi_plugin.data import DATASETS

    if args.json:
        print(json.dumps([asdict(dataset) for dataset in DATASETS.values()], indent=2, ensure_ascii=False))
        return
    for dataset in DATASETS.values():
        print(f"{dataset.name:9} {dataset.title}, {dataset.images} images")
        print(f"{'':9} licence  {dataset.licence}")
        print(f"{'':9} from     {dataset.url}")
        print(f"{'':9} cite     {dataset.citation}")
        if dataset.note:
            print(f"{'':9} note     {dataset.note}")


def run_prepare(args: argparse.Namespace) -> None:
    """Prepare one data set, and print what was written; what was left out, and what is worth checking, on stderr."""
    from sdi_plugin import data

    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(f"data prepare needs tqdm ({error}). Install it: pip install 'sdi-plugin[smp]'") from error

    def progress(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
        return tqdm(items, label, total, unit="image", disable=None)

    try:
        done = data.prepare(
            args.name, args.source, args.out, args.layout, args.size, args.splits, args.skip_bad, progress
        )
    except data.DataError as error:
        _tell(error.problems[:_SHOWN])
        if more := error.problems[_SHOWN:]:
            _tell([f"... and {len(more)} more"])
        raise
    _tell([f"left out: {problem}" for problem in done.left_out])
    _tell(done.notes)
    listed = ", ".join(f"{split} {count}" for split, count in done.splits.items())
    print(f"{done.dataset.name}: {done.images} of {done.dataset.images} images ({listed}) in {done.folder}")


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
