"""`sdi-plugin export`: a checkpoint as a graph for ONNX Runtime, OpenVINO or torch.export."""

import argparse
from pathlib import Path
from typing import Any

from sdi_plugin.cli.errors import CommandError
from sdi_plugin.cli.output import report
from sdi_plugin.cli.predict import parse_size

_EPILOG = """\
examples:
  sdi-plugin export runs/demo --out exported
  sdi-plugin export official.pth --out exported --size dynamic
  sdi-plugin export runs/demo --out small --precision int8 --calibrate photos/
  python -m sdi_plugin.deploy.run exported/model.json photo.jpg --out predicted    # where there is no torch
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="a checkpoint as an ONNX file for images of any size",
        description="Write DIR/model.onnx, from pixels to probabilities, and DIR/model.json, that says how to use it.\n"
        "Its logits are compared with torch's on five sizes, and nothing is written where they differ.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a checkpoint or folder, see docs/weights.md")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--format",
        default="onnx",
        choices=("onnx", "openvino", "pt2"),
        help="onnx for ONNX Runtime and OpenVINO, openvino for its own format, pt2 for torch.export [%(default)s]",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "fp16", "bf16", "int8"),
        help="of the weights, and of the computation where the processor has it [%(default)s]",
    )
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="images for the ranges of int8")
    parser.add_argument(
        "--size",
        type=lambda text: text if text == "dynamic" else parse_size(text),
        metavar="HxW|dynamic",
        help="the graph resizes images to this size for the network, or not at all [the checkpoint's, or dynamic]",
    )
    parser.add_argument("--raw", action="store_true", help="the network alone: normalised images to logits")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        from sdi_plugin.deploy.exporting import ExportError, export
    except ImportError as error:
        raise CommandError(f"export: {error}. Install what it needs: pip install 'sdi-plugin[smp,deploy]'") from error
    try:
        exported = export(
            arguments.model,
            arguments.out,
            format=arguments.format,
            precision=arguments.precision,
            size=arguments.size,
            raw=arguments.raw,
            calibrate=arguments.calibrate,
        )
    except ExportError as error:
        raise CommandError(str(error)) from error
    assumed = f"; assumed: {exported.assumed}" if exported.assumed else ""
    floats = f"; {len(exported.floats)} layers stay in float" if exported.floats else ""
    refused = "".join(f"; {name} cannot run it ({reason})" for name, reason in exported.refused.items())
    verified = f" in {', '.join(exported.runtimes)}" if exported.runtimes else ""
    report(
        f"{exported.file}; logits differ from torch's by at most {exported.error:.1e} of the largest{verified}"
        f"{refused}{floats}{assumed}"
    )
