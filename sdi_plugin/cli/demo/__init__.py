"""`sdi-plugin demo`: train U-Net v2 through segmentation_models_pytorch, and show what it learned."""

import argparse
from pathlib import Path
from typing import Any

from sdi_plugin.cli.errors import CommandError

_EPILOG = """\
examples:
  sdi-plugin demo                                      synthetic images, about a minute on two cores
  sdi-plugin demo --data kvasir --size 256 --epochs 30 real images in the plain layout of `sdi-plugin data prepare`
  sdi-plugin demo --out runs/demo --resume             continue after an interruption
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train U-Net v2 on synthetic or real images, and write a report",
        description="Train U-Net v2 through segmentation_models_pytorch, evaluate it on held-out images, and "
        "write report.html, metrics.json and a model that smp.from_pretrained loads. Without --data the images are "
        "synthetic.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="images/, masks/ and splits/ of real images")
    parser.add_argument("--splits", metavar="FAMILY", help="which splits of --data: pranet for pranet_train.txt ...")
    parser.add_argument(
        "--encoder",
        default="tu-tf_efficientnet_lite0",
        metavar="NAME",
        help="smp's name of the encoder [%(default)s, which starts from ImageNet weights; others start at random]",
    )
    parser.add_argument("--size", type=_positive, default=128, metavar="N", help="train at N x N pixels [%(default)s]")
    parser.add_argument("--epochs", type=_positive, default=6, metavar="N", help="passes over the data [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="results [%(default)s]")
    parser.add_argument("--resume", action="store_true", help="continue from the last finished epoch in --out, if any")
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seed of weights, order and synthetic images [%(default)s]"
    )
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2147483647, got {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    try:
        from sdi_plugin.cli.demo import checkpoint, report, train
        from sdi_plugin.cli.demo.dataset import draw, load
        from sdi_plugin.cli.demo.recipe import Recipe
    except ImportError as error:
        raise CommandError(f"demo: {error}. Install what it needs: pip install 'sdi-plugin[demo]'") from error
    out: Path = arguments.out
    if out.exists() and not out.is_dir():
        raise CommandError(f"demo: expected a folder for --out, got the file {out}.")
    if (out / checkpoint.NAME).exists() and not arguments.resume:
        raise CommandError(f"demo: {out} holds an earlier run. Pass --resume to continue, or another --out.")
    if not (out / checkpoint.NAME).exists() and any((out / name).exists() for name in report.RESULTS):
        raise CommandError(f"demo: {out} holds results without their checkpoint. Remove them, or pass another --out.")
    if arguments.data is None:
        if arguments.splits is not None:
            raise CommandError("demo: expected --data with --splits: synthetic images have one split.")
        data = draw(arguments.size, arguments.seed)
    else:
        data = load(arguments.data, arguments.size, arguments.splits)
    recipe = Recipe(
        encoder=arguments.encoder,
        size=arguments.size,
        epochs=arguments.epochs,
        seed=arguments.seed,
        data=data.fingerprint(),
    )
    run = train.train(recipe, data, out)
    metrics = report.evaluate(run, data)
    report.write(out, run, data, metrics)
    print(
        f"mean Dice {metrics.summary['mean_dice']:.4f}, mean IoU {metrics.summary['mean_iou']:.4f} on "
        f"{metrics.summary['images']:.0f} held-out images; see {out / 'report.html'}"
    )
