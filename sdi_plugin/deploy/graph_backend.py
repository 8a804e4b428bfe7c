"""An exported graph, as its model.json describes it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdi_plugin.checkpoint.card import Card
from sdi_plugin.deploy import runtimes
from sdi_plugin.deploy.runtimes import Array

SIDECAR = "model.json"


class GraphBackend:
    """See `sdi_plugin.deploy.predictor.Backend`.

    Attributes:
        size: the network's only size, or None. Unless it is raw the graph resizes images to it.
        runtime: what runs the graph.
        dim: 2 for images, 3 for volumes.

    Args:
        file: the model.json that `export` wrote.
        runtime: "openvino", "onnxruntime" or "torch", which must fit the file; or "auto": of those that are installed
            and whose logits `export` has verified, the one that was fastest then.
        threads: of the CPU.
        precision: "bf16" or "fp16", in which OpenVINO then computes; by default that of the graph.

    Raises:
        FileNotFoundError: no such file, or not the one that it describes.
        ValueError: not such a file; a graph that has changed since; another runtime's; another precision.
        ImportError: the runtime is not installed.
    """

    def __init__(
        self, file: str | Path, runtime: str = "auto", threads: int | None = None, precision: str | None = None
    ):
        file = Path(file)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            self.normalised_inside, raw, own = found["normalised_inside"], found["raw"], found["precision"]
            hashes, self.card = found["sha256"], Card.from_json(json.dumps(found["card"]))
            self.channels, self.classes = (int(found[each][0]["shape"][1]) for each in ("inputs", "outputs"))
            self.dim = len(found["inputs"][0]["shape"]) - 2
            self.size: Any = None if found["size"] is None else tuple(int(each) for each in found["size"])
            graph, possible = file.with_name(Path(found["file"]).name), runtimes.RUNTIMES[found["format"]]
            verified = {str(name): float(each["milliseconds"]) for name, each in found["runtimes"].items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(
                f"{file}: expected a model.json of sdi-plugin export, got another file ({error!r})."
            ) from error
        if runtime not in ("auto", *possible):
            raise ValueError(
                f"{file}: expected a graph for {runtime}, got one for {' or '.join(possible)}. "
                "Export it again, or use it."
            )
        for name, expected in hashes.items():
            if hashlib.sha256(file.with_name(name).read_bytes()).hexdigest() != expected:
                raise ValueError(f"{file.with_name(name)}: not the graph that {file.name} describes. Export it again.")
        if self.normalised_inside:
            self.card = replace(self.card, mean=(0.0,), std=(1.0,))
        required = precision not in (None, own)
        if required and (precision == "int8" or own == "int8" or precision not in runtimes.PRECISIONS):
            raise ValueError(
                f"{file}: expected the graph's precision, {own}, got {precision}. Export it in {precision}."
            )
        self.runtime = _fastest(found["format"], verified, required) if runtime == "auto" else runtime
        self.identity = json.dumps([str(file.resolve()), hashes, self.runtime, precision or own])
        self._run = runtimes.start(self.runtime, graph, threads, precision or own, required)
        self._output = 0 if raw else 1  # the logits

    def expect(self, size: tuple[int, ...]) -> None:
        """Prepare for images of this size; others stay possible."""
        if hasattr(self._run, "usual"):
            self._run.usual = size  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(self, images: Array) -> Array:
        return self._run(images)[self._output]


def _fastest(kind: str, verified: Mapping[str, float], required: bool) -> str:
    """Of the runtimes that are installed and verified."""
    if required and "openvino" in runtimes.RUNTIMES[kind]:
        return "openvino"
    ready = [name for name in runtimes.installed(kind) if name in verified]
    if not ready:
        raise ImportError(f"this graph was verified in {' and '.join(verified)}. Install it, or name another runtime.")
    return min(ready, key=lambda name: verified[name])
