"""`sdi-plugin predict`: masks of any images with any checkpoint."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sdi_plugin.cli.errors import CommandError
from sdi_plugin.cli.output import report

_EPILOG = """\
examples:
  sdi-plugin predict runs/demo photos/ --out predicted
  sdi-plugin predict official.pth "scans/*.tif" --out predicted --tile 512 --contours
  sdi-plugin predict unetv2 images/ --out predicted --masks masks/ --overlays
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="masks of images, with any checkpoint",
        description="Write DIR/masks/NAME.png, whose pixels are the labels' numbers, for every page of every image,\n"
        "and DIR/areas.csv. Started again, it goes on where it was stopped. Files that cannot be used are listed, and\n"
        "the exit code is then 1.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint or folder, see docs/weights.md, or model.json of export"
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--overlays", action="store_true", help="also the images with their regions tinted")
    parser.add_argument("--probabilities", action="store_true", help="also 16-bit PNGs of the probabilities")
    parser.add_argument("--contours", action="store_true", help="also the regions' polygons in GeoJSON")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="true masks by name: also report.html, metrics.csv")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", type=parse_size, metavar="HxW", help="resize to this size [the checkpoint's]")
    size.add_argument("--tile", type=int, metavar="N", help="keep the resolution, and cut larger images into N x N")
    parser.add_argument(
        "--overlap", type=float, default=0.5, metavar="SHARE", help="of neighbouring tiles [%(default)s]"
    )
    parser.add_argument("--flips", action="store_true", help="average over the four mirror images")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images or tiles at a time [%(default)s]")
    parser.add_argument("--threshold", type=float, metavar="P", help="of one channel's probability [the checkpoint's]")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "torch", "onnxruntime", "openvino"),
        help="torch runs checkpoints, the others what export wrote; auto: the one that was fastest then [%(default)s]",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto [%(default)s]")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        help="of the computation, in torch and openvino [that of the exported graph; fp32]",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    parser.set_defaults(run=run)


def parse_size(text: str) -> tuple[int, int]:
    """N or HxW as (height, width)."""
    height, _, width = text.partition("x")
    if not height.isdigit() or not (width or height).isdigit() or int(height) < 1 or int(width or height) < 1:
        raise argparse.ArgumentTypeError(f"expected N or HxW in pixels, got {text!r}")
    return int(height), int(width or height)


def run(arguments: argparse.Namespace) -> int:
    try:
        from sdi_plugin.deploy import folder
        from sdi_plugin.deploy.loading import load
        from sdi_plugin.deploy.predictor import Predictor, is_exported
    except ImportError as error:
        raise CommandError(f"predict: {error}. Install what it needs: pip install 'sdi-plugin[smp]'") from error
    model: Any = arguments.model
    if arguments.backend in ("auto", "torch") and not is_exported(model):
        model = load(model)
        if model.dim == 3:
            return _volumes(model, arguments)
    options = ("size", "tile", "overlap", "flips", "batch", "threshold", "device", "precision", "threads")
    items = folder.find(arguments.inputs)
    chosen = {name: getattr(arguments, name) for name in options}
    predictor = Predictor(model, runtime=arguments.backend, **chosen)
    print(f"sdi-plugin: the network runs in {predictor.backend.runtime}", file=sys.stderr)
    if predictor.assumed:
        print(f"sdi-plugin: the checkpoint does not say {predictor.assumed}: assumed", file=sys.stderr)
    with _progress(len(items)) as bar:

        def on_file(file: Path, error: str) -> None:
            bar.update()
            if error:
                bar.write(f"skipped {file}: {error}", file=sys.stderr)

        summary = folder.predict(
            predictor,
            arguments.inputs,
            arguments.out,
            overlays=arguments.overlays,
            probabilities=arguments.probabilities,
            contours=arguments.contours,
            masks=arguments.masks,
            on_file=on_file,
        )
    earlier = f", {summary.skipped} finished earlier" if summary.skipped else ""
    failed = f", {len(summary.failed)} that cannot be used" if summary.failed else ""
    scores = f"; mean Dice {summary.metrics['mean_dice']:.4f}" if summary.metrics else ""
    report(f"{summary.done} files{earlier}{failed}; see {arguments.out}{scores}")
    return 1 if summary.failed else 0


def _volumes(model: Any, arguments: argparse.Namespace) -> int:
    from sdi_plugin.deploy import volumes

    def on_file(file: Path, error: str) -> None:
        print(f"sdi-plugin: {file}: {error or 'done'}", file=sys.stderr)

    summary = volumes.predict(
        model, arguments.inputs, arguments.out, flips=arguments.flips, device=arguments.device, on_file=on_file
    )
    failed = f", {len(summary.failed)} that cannot be used" if summary.failed else ""
    report(f"{summary.done} volumes, {summary.skipped} finished earlier{failed}; see {arguments.out}")
    return 1 if summary.failed else 0


def _progress(count: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=count, desc="predicting", leave=False, disable=None)
