"""Masks by an exported graph where torch is not installed: `python -m sdi_plugin.deploy.run model.json image.png`.

It needs numpy, Pillow, and onnxruntime or openvino; `sdi-plugin predict model.json` does more.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdi_plugin.deploy import folder
from sdi_plugin.deploy.predictor import Predictor


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a file could not be used, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m sdi_plugin.deploy.run", description=__doc__)
    parser.add_argument("model", metavar="MODEL.json", help="what sdi-plugin export wrote")
    parser.add_argument("inputs", metavar="IMAGE", nargs="+", help="files, folders, or patterns in quotes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--overlays", action="store_true", help="also the images with their regions tinted")
    parser.add_argument("--probabilities", action="store_true", help="also 16-bit PNGs of the probabilities")
    parser.add_argument("--tile", type=int, metavar="N", help="cut larger images into tiles of N x N")
    parser.add_argument(
        "--backend", default="auto", choices=("auto", "onnxruntime", "openvino"), help="see sdi-plugin predict [auto]"
    )
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8"), help="of openvino [the graph's]")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    arguments = parser.parse_args(argv)
    try:
        predictor = Predictor(
            arguments.model,
            tile=arguments.tile,
            threads=arguments.threads,
            runtime=arguments.backend,
            precision=arguments.precision,
        )
        summary = folder.predict(
            predictor,
            arguments.inputs,
            arguments.out,
            overlays=arguments.overlays,
            probabilities=arguments.probabilities,
            on_file=lambda file, error: print(f"{file}: {error or 'done'}", file=sys.stderr),
        )
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
