"""A checkpoint as a graph for other runtimes, with a model.json that says how to use it."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sdi_plugin import files, frameworks
from sdi_plugin.checkpoint import Card
from sdi_plugin.deploy.graph import Graph, trace
from sdi_plugin.deploy.graph_backend import SIDECAR, GraphBackend
from sdi_plugin.deploy.loading import Loaded, load
from sdi_plugin.deploy.predictor import LARGEST, TILE, Predictor

FORMATS = {"onnx": "model.onnx", "pt2": "model.pt2"}
BOUND = 1e-4  # of the difference to eager torch, relative to the largest logit
_SIZES = ((96, 96), (97, 130), (352, 352), (64, 200), (480, 640))


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        file: the model.json.
        error: the largest difference of the logits to eager torch, relative to the largest logit.
        assumed: as `Predictor.assumed`.

    Examples:
        >>> from pathlib import Path
        >>> from sdi_plugin.deploy import Exported
        >>> Exported(Path("exported/model.json"), 2e-7).file.name
        'model.json'
    """

    file: Path
    error: float
    assumed: str = ""


class ExportError(RuntimeError):
    """A network that torch cannot export, or whose graph differs from it. Nothing was written.

    Examples:
        >>> from sdi_plugin.deploy import ExportError
        >>> raise ExportError("a graph that differs")
        Traceback (most recent call last):
        sdi_plugin.deploy.exporting.ExportError: a graph that differs
    """


def export(
    model: str | Path | Loaded,
    out: str | Path,
    *,
    format: str = "onnx",
    size: tuple[int, int] | str | None = None,
    raw: bool = False,
) -> Exported:
    """Write DIR/model.onnx or DIR/model.pt2, and DIR/model.json; the graph takes images of any size, in any batch.

    Args:
        model: a 2-D checkpoint as `sdi_plugin.load` takes it, or what `load` returned.
        out: a folder; other files in it stay.
        format: "onnx", or "pt2" for `torch.export.load`.
        size: (height, width) for the network, to which the graph resizes images; "dynamic" for the images' own size; by
            default the checkpoint's, and "dynamic" where it has none.
        raw: the network alone: normalised images to logits; with a size, images of this size.

    Convention:
        images: float32 (B, C, H, W), pixels from 0 to 255, RGB. Outputs: probabilities and logits (B, K, H, W).
        Normalisation is inside, unless each image has its own (nnU-Net): such graphs take normalised images.

    Raises:
        ValueError: an argument out of range, a network for volumes; see also `sdi_plugin.load`.
        ExportError: torch cannot export the network, or on one of five sizes its logits differ by more than 1e-4 of the
            largest.
        ImportError: onnx, onnxscript or onnxruntime is not installed.

    Examples:
        >>> from sdi_plugin import deploy
        >>> exported = deploy.export("unetv2-smp", "exported", format="pt2", size=(64, 64))
        >>> exported.file.name, exported.error < 1e-4
        ('model.json', True)
    """
    if format not in FORMATS:
        raise ValueError(f"export: expected a format of {', '.join(FORMATS)}, got {format!r}.")
    if isinstance(size, str) and size != "dynamic":
        raise ValueError(f'export: expected size (height, width), "dynamic" or None, got {size!r}.')
    if format == "onnx":
        _check_installed()
    model = load(model) if isinstance(model, str | Path) else model
    predictor = Predictor(model, device="cpu")  # which knows what is assumed, and refuses volumes
    model.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    fixed = None if isinstance(size, str) else size or model.card.size
    inside = not raw and not model.card.per_image
    card = replace(predictor.card, size=fixed or model.card.size)
    graph = Graph(model, (card.mean, card.std) if inside else None, fixed, raw)
    out = Path(out)
    with files.folder(out, into=True) as folder:
        file = folder / FORMATS[format]
        _write(graph, predictor.backend.channels, file)
        sidecar = _describe(file, card, predictor, fixed, inside, raw)
        (folder / SIDECAR).write_text(json.dumps(sidecar))
        sizes = [fixed] * len(_SIZES) if raw and fixed else _SIZES
        error = _verify(graph, GraphBackend(folder / SIDECAR), sizes)
        if not error <= BOUND:
            raise ExportError(
                f"export: expected logits that differ from torch's by at most {BOUND:g} of the largest, got "
                f"{error:.1e}. Pass a size: the network itself is then traced for one size."
            )
        sidecar["verified"] = {"sizes": [list(each) for each in sizes], "relative_error": error, "bound": BOUND}
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")
    return Exported(out / SIDECAR, error, predictor.assumed)


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if frameworks.version(name) is None]
    if missing:
        raise ImportError(
            f"export needs {', '.join(missing)}. Install what is missing: pip install 'sdi-plugin[deploy]'"
        )


def _write(graph: Graph, channels: int, file: Path) -> None:
    try:
        with warnings.catch_warnings():
            # Of torch's own exporter and onnxscript; the user cannot change what they call.
            warnings.simplefilter("ignore")
            program = trace(graph, channels)
            if file.suffix == ".pt2":
                torch.export.save(program, file)
                return
            written = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=["images"], output_names=_outputs(graph.raw)
            )
            assert written is not None
            written.save(file)
    except Exception as error:  # torch's exporters raise anything
        raise ExportError(
            f"export: torch cannot export this network: {str(error).splitlines()[0] if str(error) else error!r}. "
            "Pass a size: the network itself is then traced for one size."
        ) from error


def _outputs(raw: bool) -> list[str]:
    return ["logits"] if raw else ["probabilities", "logits"]


def _describe(
    file: Path, card: Card, predictor: Predictor, size: tuple[int, int] | None, inside: bool, raw: bool
) -> dict[str, Any]:
    sides = list(size) if size and raw else ["height", "width"]
    shape = ["batch", predictor.backend.channels, *sides]
    pixels = "pixels 0 to 255, RGB or grey" if inside else "normalised: (pixels 0 to 255 - mean) / std"
    data = file.with_name(file.name + ".data")  # of ONNX files above 2 GB
    return {
        "format": file.suffix[1:],
        "file": file.name,
        "sha256": {each.name: _sha256(each) for each in (file, data) if each.exists()},
        "inputs": [{"name": "images", "dtype": "float32", "shape": shape, "values": pixels}],
        "outputs": [
            {"name": name, "dtype": "float32", "shape": ["batch", predictor.backend.classes, *sides]}
            for name in _outputs(raw)
        ],
        "normalised_inside": inside,
        "raw": raw,
        "size": size,
        "card": asdict(card),
        "tiles": {"above_pixels": LARGEST, "tile": TILE, "overlap": predictor.overlap},
        "versions": {**frameworks.versions(), **{name: frameworks.version(name) for name in ("onnx", "onnxscript")}},
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@torch.no_grad()
def _verify(graph: Graph, backend: GraphBackend, sizes: Sequence[tuple[int, int]]) -> float:
    """The largest difference of the logits to eager torch, relative to the largest logit, over batches of 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for index, size in enumerate(sizes):
        # Pixels with structure at every scale, as images have it.
        octaves = [
            torch.rand(1 + index % 2 * 2, backend.channels, 2**n, 2**n, generator=generator) for n in range(2, 8)
        ]
        images = torch.stack([F.interpolate(each, size, mode="bilinear") for each in octaves]).mean(0) * 255
        images = images if backend.normalised_inside else (images - 127.5) / 50
        expected = _eager(graph, images)
        difference = torch.from_numpy(backend(images.numpy())) - expected
        worst = max(worst, float(difference.abs().max() / expected.abs().max()))
    return worst


def _eager(graph: Graph, images: Tensor) -> Tensor:
    """The logits by torch's own resizing and, where they are built, our kernels."""
    resized = images
    if graph.size is not None and not graph.raw:
        resized = F.interpolate(images, graph.size, mode="bilinear", antialias=True)
    logits = graph.model((resized - graph.mean) / graph.std)
    return F.interpolate(logits, images.shape[2:], mode="bilinear") if logits.shape[2:] != images.shape[2:] else logits
