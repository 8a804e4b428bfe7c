"""A checkpoint as a graph for other runtimes, with a model.json that says how to use it."""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sdi_plugin import files, frameworks
from sdi_plugin.checkpoint import Card
from sdi_plugin.deploy import compressing, quantizing, verifying
from sdi_plugin.deploy.graph import Graph, trace
from sdi_plugin.deploy.graph_backend import SIDECAR
from sdi_plugin.deploy.loading import Loaded, load
from sdi_plugin.deploy.predictor import LARGEST, TILE, Predictor
from sdi_plugin.deploy.runtimes import PRECISIONS, Array

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "pt2": "model.pt2"}
# Of the difference to eager torch, relative to the largest logit.
BOUNDS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.2}


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        file: the model.json.
        error: the largest difference of the logits to eager torch, relative to the largest logit, in any runtime.
        assumed: as `Predictor.assumed`.
        runtimes: the error of each runtime that was installed, and stayed within the bound.
        floats: the layers that int8 left in float.
        refused: why a runtime that was installed cannot run the graph, by its name.

    Examples:
        >>> from pathlib import Path
        >>> from sdi_plugin.deploy import Exported
        >>> Exported(Path("exported/model.json"), 2e-7).file.name
        'model.json'
    """

    file: Path
    error: float
    assumed: str = ""
    runtimes: Mapping[str, float] = field(default_factory=dict)
    floats: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


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
    precision: str = "fp32",
    size: tuple[int, int] | str | None = None,
    raw: bool = False,
    calibrate: str | Path | None = None,
) -> Exported:
    """Write DIR/model.onnx, model.xml or model.pt2, and DIR/model.json; the graph takes images of any size and batch.

    Args:
        model: a 2-D checkpoint as `sdi_plugin.load` takes it, or what `load` returned.
        out: a folder; other files in it stay.
        format: "onnx", for ONNX Runtime and OpenVINO; "openvino", its own format; "pt2" for `torch.export.load`, which
            can run code of a file: for your own use, not for strangers' files.
        precision: "fp32"; "fp16" or "bf16": weights of half the size, and OpenVINO also computes in it where the
            processor can; "int8": convolutions and matrix products of integers, with ranges from `calibrate`, but
            for layers whose integers cost too much. pt2 is always "fp32".
        size: (height, width) for the network, to which the graph resizes images; "dynamic" for the images' own size; by
            default the checkpoint's, and "dynamic" where it has none.
        raw: the network alone: normalised images to logits; with a size, images of this size.
        calibrate: a folder of images for int8, of which 32 are read.

    Convention:
        images: float32 (B, C, H, W), pixels from 0 to 255, RGB. Outputs: probabilities and logits (B, K, H, W).
        Normalisation is inside, unless each image has its own (nnU-Net): such graphs take normalised images.

    Raises:
        ValueError: an argument out of range, another size than the encoder's only one, a network for volumes; see also
            `sdi_plugin.load`.
        ExportError: torch cannot export the network, no runtime runs the graph, or its logits differ from torch's by
            more than 1e-4 of the largest on one of five sizes (fp16 1e-2, bf16 5e-2; int8 0.2 on the images of
            `calibrate`).
        ImportError: onnx, onnxscript or the runtime of the format is not installed.

    Examples:
        >>> from sdi_plugin import deploy
        >>> exported = deploy.export("unetv2-smp", "exported", format="pt2", size=(64, 64))
        >>> exported.file.name, exported.error < 1e-4
        ('model.json', True)
    """
    _check_arguments(model, format, precision, size, calibrate)
    model = load(model) if isinstance(model, str | Path) else model
    predictor = Predictor(model, device="cpu") if model.dim == 2 else None  # which knows what is assumed
    if predictor is None and (size not in (None, "dynamic") or calibrate is not None):
        raise ValueError("export: expected no size and no int8 for a network for volumes, which is exported alone.")
    if model.only_size and size not in (None, model.only_size):
        raise ValueError(
            f"export: expected size {model.only_size} or None, which this encoder was built for, got {size}."
        )
    raw = raw or predictor is None
    model.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    fixed = None if isinstance(size, str) else model.card.size if size is None else (size[0], size[1])
    inside = not raw and not model.card.per_image
    card = replace(model.card if predictor is None else predictor.card, size=fixed or model.card.size)
    graph = Graph(model, (card.mean, card.std) if inside else None, fixed, raw)
    multiple = getattr(model.network, "multiple", None)
    images = None
    if calibrate is not None and predictor is not None:
        images = quantizing.pixels(Path(calibrate), predictor, inside, fixed)
    out = Path(out)
    with files.folder(out, into=True) as folder:
        file = folder / FORMATS[format]
        floats = _write(graph, model.channels, multiple or (32,) * model.dim, file, precision, images)
        sizes = verifying.sizes(fixed if raw else None, multiple)
        given = verifying.pixels(model, sizes, inside) if images is None else images[:8]
        cases = [(each, verifying.eager(graph, each)) for each in given]
        sidecar = _describe(file, card, cases[0], fixed, inside, raw, precision)
        sidecar["multiple"] = multiple
        sidecar["tiles"] = {"above_pixels": LARGEST, "tile": TILE, "overlap": predictor.overlap} if predictor else None
        (folder / SIDECAR).write_text(json.dumps(sidecar))
        found = verifying.verify(folder / SIDECAR, format, cases)
        bound = BOUNDS[precision]
        refused = {name: each["refused"] for name, each in found.items() if "refused" in each}
        ran = {name: each for name, each in found.items() if name not in refused}
        if not ran:
            reasons = "; ".join(f"{name} cannot: {reason}" for name, reason in refused.items())
            raise ExportError(f"export: expected a runtime that runs the graph; {reasons}. {_CURES[precision]}")
        good = {name: each for name, each in ran.items() if each["relative_error"] <= bound}
        if not good:
            raise ExportError(
                f"export: expected logits that differ from torch's by at most {bound:g} of the largest, got "
                f"{min(each['relative_error'] for each in ran.values()):.1e}. " + _CURES[precision]
            )
        errors = {name: each["relative_error"] for name, each in good.items()}
        sidecar["runtimes"] = good
        sidecar["verified"] = {
            "sizes": [list(each.shape[2:]) for each in given],
            "relative_error": max(errors.values()),
            "bound": bound,
        }
        sidecar["floats"] = floats
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")
    assumed = predictor.assumed if predictor else ""
    return Exported(out / SIDECAR, max(errors.values()), assumed, errors, tuple(floats), refused)


_CURES = {
    "fp32": "Pass a size: the network itself is then traced for one size.",
    "fp16": "Pass precision fp32.",
    "bf16": "Pass precision fp16 or fp32.",
    "int8": "Calibrate on images like those of training, or pass precision fp16.",
}


def _check_arguments(model: Any, format: str, precision: str, size: Any, calibrate: Any) -> None:
    if not isinstance(model, str | Path | Loaded):
        kind = type(model).__name__
        raise ValueError(f"export: expected a checkpoint's path, or what sdi_plugin.load returned, got {kind}.")
    if format not in tuple(FORMATS):
        raise ValueError(f"export: expected a format of {', '.join(FORMATS)}, got {format!r}.")
    if precision not in PRECISIONS or (format == "pt2" and precision != "fp32"):
        raise ValueError(f"export: expected a precision of {', '.join(PRECISIONS)}, for pt2 fp32, got {precision!r}.")
    if size not in (None, "dynamic") and not _is_size(size):
        raise ValueError(f'export: expected size (height, width), "dynamic" or None, got {size!r}.')
    if (precision == "int8") != isinstance(calibrate, str | Path) or not isinstance(calibrate, str | Path | None):
        raise ValueError("export: expected calibrate, a folder of images, for int8 and for nothing else.")
    if format == "pt2":
        return
    needed = {"onnx", "onnxscript", "openvino" if format == "openvino" else "onnxruntime"}
    needed |= {"onnxruntime"} if precision == "int8" else set()
    if missing := sorted(name for name in needed if frameworks.version(name) is None):
        extra = "openvino" if "openvino" in missing else "deploy"
        raise ImportError(
            f"export needs {', '.join(missing)}. Install what is missing: pip install 'sdi-plugin[{extra}]'"
        )


def _is_size(size: Any) -> bool:
    pair = isinstance(size, tuple | list) and len(size) == 2
    return pair and all(isinstance(each, int) and each > 0 for each in size)


def _write(
    graph: Graph,
    channels: int,
    multiple: Sequence[int],
    file: Path,
    precision: str,
    images: Sequence[Array] | None,
) -> list[str]:
    """Returns the layers that int8 left in float."""
    if file.suffix == ".pt2":
        _trace(graph, channels, multiple, file)
        return []
    with tempfile.TemporaryDirectory() as temporary:
        onnx = file if file.suffix == ".onnx" else Path(temporary, "model.onnx")
        _trace(graph, channels, multiple, onnx)
        floats = []
        if precision == "int8":
            assert images is not None
            floats = quantizing.quantize(onnx, images, BOUNDS["int8"])
        elif precision != "fp32":
            compressing.halve(onnx, precision)
        if onnx != file:
            compressing.to_openvino(onnx, file)
    return floats


def _trace(graph: Graph, channels: int, multiple: Sequence[int], file: Path) -> None:
    try:
        with warnings.catch_warnings():
            # Of torch's own exporter and onnxscript; the user cannot change what they call.
            warnings.simplefilter("ignore")
            program = trace(graph, channels, multiple)
            if file.suffix == ".pt2":
                torch.export.save(program, file)
                return
            written = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=["images"], output_names=_outputs(graph.raw)
            )
            assert written is not None
            written.save(file)
    except Exception as error:  # torch's exporters raise anything
        root: BaseException = error
        while root.__cause__ is not None:  # torch.onnx says what to do next, and why only there
            root = root.__cause__
        reason = next(iter(str(root).splitlines()), "") or repr(root)
        cure = "" if graph.size else f" {_CURES['fp32']}"
        raise ExportError(f"export: torch cannot export this network: {reason.rstrip('.')}.{cure}") from error


def _outputs(raw: bool) -> list[str]:
    return ["logits"] if raw else ["probabilities", "logits"]


def _describe(
    file: Path,
    card: Card,
    case: tuple[Array, Array],
    size: tuple[int, int] | None,
    inside: bool,
    raw: bool,
    precision: str,
) -> dict[str, Any]:
    channels, classes = (each.shape[1] for each in case)
    sides = list(size) if size and raw else ["depth", "height", "width"][4 - case[0].ndim + 1 :]
    shape = ["batch", channels, *sides]
    pixels = "pixels 0 to 255, RGB or grey" if inside else "normalised: (pixels 0 to 255 - mean) / std"
    # Also the weights of ONNX files above 2 GB, and OpenVINO's.
    beside = (file, file.with_name(file.name + ".data"), file.with_suffix(".bin"))
    return {
        "format": next(name for name, own in FORMATS.items() if own == file.name),
        "file": file.name,
        "sha256": {each.name: _sha256(each) for each in beside if each.exists()},
        "inputs": [{"name": "images", "dtype": "float32", "shape": shape, "values": pixels}],
        "outputs": [{"name": name, "dtype": "float32", "shape": ["batch", classes, *sides]} for name in _outputs(raw)],
        "normalised_inside": inside,
        "raw": raw,
        "precision": precision,
        "runtimes": {},
        "size": size,
        "card": asdict(card),
        "versions": {**frameworks.versions(), **{name: frameworks.version(name) for name in _PACKAGES}},
    }


_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
