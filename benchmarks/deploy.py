"""Prediction from images to masks by every runtime, its errors, and what int8 costs: the tables of docs/deploy.md.

python -m benchmarks.deploy --json benchmarks/results/deploy/NAME.json   measures, on an idle machine
python -m benchmarks.deploy --encoder pvt_v2_b0 --rounds 3                a quick look
python -m benchmarks.deploy --model RUN --images DIR --masks DIR --calibrate DIR ...   also int8, by a trained network
python -m benchmarks.deploy --render                                      writes the tables from the results
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import torch

from benchmarks import environment, markdown
from sdi_plugin import UNetV2, deploy, frameworks
from sdi_plugin.checkpoint import Card
from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import Loaded, Predictor
from sdi_plugin.deploy.graph_backend import SIDECAR, GraphBackend
from sdi_plugin.deploy.runtimes import Array

RESULTS = Path(__file__).parent / "results" / "deploy"
PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
CARD = Card(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), labels=("background", "polyp"))
SIZE = (352, 352)
SIZES = ((96, 96), (97, 130), SIZE, (1080, 1920))
BATCHES = (1, 3)
GOALS = {"auto": 2.2, "auto, bf16": 5.0}  # times faster than eager


class Eager:
    """The network in PyTorch as it comes: contiguous, float32."""

    runtime = "torch"

    def __init__(self, model: Loaded):
        self.model, self.card, self.identity, self.channels, self.classes = model, model.card, "eager", 3, 1

    def __call__(self, images: Array) -> Array:
        with torch.inference_mode():
            return self.model(torch.from_numpy(images)).numpy()


def network(encoder: str) -> Loaded:
    torch.manual_seed(0)
    return Loaded(UNetV2(encoder, classes=1, init="unit").eval(), CARD, Path(__file__))


def measure(encoder: str, rounds: int, exported: Path, threads: int) -> dict[str, Any]:
    """The times of all contenders, from an image to its mask, in turn; and their logits' errors."""
    model = network(encoder)
    contenders = {"eager": Predictor(Eager(model), size=SIZE)}
    for name, options in {
        "auto": {},
        "openvino": {"runtime": "openvino"},
        "onnxruntime": {"runtime": "onnxruntime"},
        "auto, bf16": {"precision": "bf16"},
    }.items():
        try:
            contenders[name] = Predictor(exported, size=SIZE, threads=threads, **options)
        except ValueError as error:  # a processor without bfloat16
            print(f"{name}: {error}", flush=True)
    image = lesion_image((0,), SIZE[0])[0]
    predictors: dict[str, Callable[[], Any]] = {name: lambda p=p: p(image) for name, p in contenders.items()}
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    expected = contenders["eager"].backend(_normalised(pixels))
    errors = {name: _relative(each.backend(pixels), expected) for name, each in contenders.items() if name != "eager"}
    times = interleaved(predictors, rounds)
    eager = times["eager"]["median"]
    return {
        "encoder": encoder,
        "size": SIZE,
        "rounds": rounds,
        "threads": threads,
        "runtime": {name: each.backend.runtime for name, each in contenders.items()},
        "ms": times,
        "speed_up_over_eager": {name: eager / each["median"] for name, each in times.items()},
        "relative_error": errors,
        "goals": GOALS,
    }


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each: two rounds to warm up, then all in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if index >= 2:
                times[name].append((time.perf_counter() - start) * 1e3)
    found = {}
    for name, each in times.items():
        low, median, high = quantiles(each, n=4, method="inclusive")
        found[name] = {"median": median, "q25": low, "q75": high}
    return found


def sizes(model: Loaded, exported: Path, threads: int) -> list[dict[str, Any]]:
    """The errors of the dynamic graph in each runtime, relative to the largest logit."""
    rows = []
    for runtime in ("onnxruntime", "openvino"):
        backend = GraphBackend(exported / SIDECAR, runtime, threads)
        for size in SIZES:
            for batch in BATCHES:
                shape = (batch, 3, *size)
                images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
                error = _relative(backend(images), Eager(model)(_normalised(images)))
                print(f"{runtime}, {batch} x {size}: {error:.1e}", flush=True)
                rows.append({"runtime": runtime, "batch": batch, "size": size, "relative_error": error})
    return rows


def precisions(
    model: str, images: Path, masks: Path, calibrate: Path, rounds: int, threads: int, folder: Path
) -> dict[str, Any]:
    """Dice, file size and time of a trained network in every precision, by the fastest runtime and by each."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        predictors = {}
        for precision in ("fp32", "fp16", "bf16", "int8"):
            out = folder / precision
            if not (out / SIDECAR).exists():
                options: dict[str, Any] = {"calibrate": calibrate} if precision == "int8" else {}
                deploy.export(model, out, precision=precision, **options)
            sidecar = json.loads((out / SIDECAR).read_text())
            for runtime, verified in sidecar["runtimes"].items():
                predictor = Predictor(out, runtime=runtime, threads=threads, batch=1)
                summary = deploy.predict(predictor, [images], Path(temporary, f"{precision}-{runtime}"), masks=masks)
                name = f"{precision}, {runtime}"
                predictors[name] = predictor
                found[name] = {
                    "mean_dice": summary.metrics["mean_dice"],
                    "images": int(summary.metrics["images"]),
                    "bytes": (out / "model.onnx").stat().st_size,
                    "relative_error": verified["relative_error"],
                    "layers_in_float": len(sidecar["floats"]),
                }
                print(name, found[name], flush=True)
        image = lesion_image((0,), 352)[0]
        times = interleaved({name: lambda p=p: p(image) for name, p in predictors.items()}, rounds)
    for name, each in times.items():
        found[name]["ms"] = each
        reference = found[f"fp32, {name.partition(', ')[2]}"]
        found[name]["points_lost"] = 100 * (reference["mean_dice"] - found[name]["mean_dice"])
    return found


def _normalised(pixels: Array) -> Array:
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (CARD.mean, CARD.std))
    return (pixels - mean) / std


def _relative(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def tables() -> dict[str, Callable[[], str]]:
    """The parts of the page, from all stored results."""
    stored = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]

    def speed() -> str:
        rows = []
        for result in stored:
            part = result["speed"]
            for name, each in part["ms"].items():
                gain, error = part["speed_up_over_eager"][name], part["relative_error"].get(name)
                rows.append(
                    [
                        result["machine"]["name"],
                        name if name in ("eager", part["runtime"][name]) else f"{name} ({part['runtime'][name]})",
                        f"{each['median']:.0f} ({each['q25']:.0f} to {each['q75']:.0f})",
                        f"{gain:.2f}",
                        "-" if error is None else f"{error:.0e}",
                    ]
                )
        if not rows:
            return ""
        return markdown.table(["machine", "by", "ms (quartiles)", "times eager", "relative error of logits"], rows)

    def dice() -> str:
        rows = [
            [
                name,
                f"{each['mean_dice']:.4f}",
                f"{each['points_lost']:+.2f}",
                f"{each['bytes'] / 2**20:.1f}",
                f"{each['ms']['median']:.0f}",
                each["layers_in_float"],
            ]
            for result in stored
            for name, each in result.get("precisions", {}).items()
        ]
        if not rows:
            return ""
        header = ["precision, runtime", "mean Dice", "points lost", "file in MiB", "ms per image", "layers in float"]
        return markdown.table(header, rows)

    def errors() -> str:
        rows = [
            [
                row["runtime"],
                row["batch"],
                "x".join(map(str, row["size"])),
                f"{row['relative_error']:.0e}",
            ]
            for result in stored
            for row in result.get("sizes", [])
        ]
        return markdown.table(["runtime", "batch", "size", "relative error of logits"], rows) if rows else ""

    return {"runtimes": speed, "precisions": dice, "sizes": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="pvt_v2_b2")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--exported", type=Path, help="a folder that keeps the exports for another run")
    parser.add_argument("--no-sizes", action="store_true", help="without the errors at every size")
    for name in ("model", "images", "masks", "calibrate"):
        parser.add_argument(f"--{name}", type=str if name == "model" else Path, help="see above")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    if arguments.render:
        PAGE.write_text(markdown.fill(PAGE.read_text(), tables()))
        return
    environment.restart_with_settings()
    threads = int(os.environ["OMP_NUM_THREADS"])
    result: dict[str, Any] = {
        "versions": {
            **frameworks.versions(),
            **{each: frameworks.version(each) for each in ("onnxruntime", "openvino")},
        },
        "machine": environment.machine(),
        "command": environment.command(),
        "commit": environment.commit(),
        "environment": environment.settings(),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.exported or Path(temporary)
        exported = folder / arguments.encoder
        if not (exported / SIDECAR).exists():
            deploy.export(network(arguments.encoder), exported)
        result["speed"] = measure(arguments.encoder, arguments.rounds, exported, threads)
        print(json.dumps(result["speed"], indent=1), flush=True)
        if arguments.model:
            given = (arguments.model, arguments.images, arguments.masks, arguments.calibrate)
            result["precisions"] = precisions(*given, arguments.rounds, threads, folder)
        if not arguments.no_sizes:
            result["sizes"] = sizes(network(arguments.encoder), exported, threads)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
