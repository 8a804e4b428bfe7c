"""An exported graph, as its model.json describes it."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        ValueError: not such a file; a graph that has changed since, or that the runtime cannot read or run; another
            runtime's; another precision.
        ImportError: the runtime is not installed.
    """

    def __init__(
        self, file: str | Path, runtime: str = "auto", threads: int | None = None, precision: str | None = None
    ):
        file = Path(file)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            self.normalised_inside, raw, own = found["normalised_inside"], found["raw"], found["precision"]
            hashes, self.card = dict(found["sha256"]), Card.from_json(json.dumps(found["card"]))
            self.channels, self.classes = (int(found[each][0]["shape"][1]) for each in ("inputs", "outputs"))
            self.dim = len(found["inputs"][0]["shape"]) - 2
            self.size: Any = None if found["size"] is None else tuple(int(each) for each in found["size"])
            graph, possible = file.with_name(found["file"]), runtimes.RUNTIMES[found["format"]]
            verified = {str(name): float(each["milliseconds"]) for name, each in found["runtimes"].items()}
            hashed = {file.with_name(name): expected for name, expected in hashes.items()}
            if graph not in hashed or not isinstance(own, str):
                raise ValueError("no hash of the graph, or no precision")
            if runtime == "auto" and not verified:
                raise ValueError("no runtime that export has verified")
            if not (1 <= self.channels <= 1024 and 1 <= self.classes <= 256):  # masks are of 8 bits
                raise ValueError(f"{self.channels} channels, {self.classes} classes")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{file}: expected a model.json of sdi-plugin export, got another file ({error!r})."
            ) from error
        if runtime not in ("auto", *possible):
            raise ValueError(
                f"{file}: expected a graph for {runtime}, got one for {' or '.join(possible)}. "
                "Export it again, or use it."
            )
        for each, expected in hashed.items():
            if not each.is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(each))
            if hashlib.sha256(each.read_bytes()).hexdigest() != expected:
                raise ValueError(f"{each}: not the graph that {file.name} describes. Export it again.")
        if self.normalised_inside:
            self.card = replace(self.card, mean=(0.0,), std=(1.0,))
        required = precision not in (None, own)
        if required and (precision == "int8" or own == "int8" or precision not in runtimes.PRECISIONS):
            raise ValueError(
                f"{file}: expected the graph's precision, {own}, got {precision}. Export it in {precision}."
            )
        self.runtime = _fastest(found["format"], verified, required) if runtime == "auto" else runtime
        self.identity = json.dumps([str(file.resolve()), hashes, self.runtime, precision or own])
        self._graph, self._output = graph, 0 if raw else 1  # the logits
        with self._explained("read"):
            self._run = runtimes.start(self.runtime, graph, threads, precision or own, required)

    def expect(self, size: tuple[int, ...]) -> None:
        """Prepare for images of this size; others stay possible."""
        if hasattr(self._run, "usual"):
            self._run.usual = size  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(self, images: Array) -> Array:
        with self._explained("run"):
            logits = self._run(images)[self._output]
            if logits.shape[:2] != (len(images), self.classes) or logits.ndim != images.ndim:
                raise TypeError(f"logits of shape {logits.shape}")
        return logits

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ImportError, MemoryError, ValueError):
            raise
        except Exception as error:  # the runtimes have their own types
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise ValueError(
                f"{self._graph}: expected the graph of its {SIDECAR}, which {self.runtime} cannot {what}: {reason}. "
                "Export it again."
            ) from error


def _fastest(kind: str, verified: Mapping[str, float], required: bool) -> str:
    """Of the runtimes that are installed and verified."""
    if required and "openvino" in runtimes.RUNTIMES[kind]:
        return "openvino"
    ready = [name for name in runtimes.installed(kind) if name in verified]
    if not ready:
        raise ImportError(f"this graph was verified in {' and '.join(verified)}. Install it, or name another runtime.")
    return min(ready, key=lambda name: verified[name])
