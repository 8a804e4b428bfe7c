"""A network with everything around it: from the pixels of an image to a mask of the image's own size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdi_plugin.checkpoint.card import Card
from sdi_plugin.deploy import images, tiles
from sdi_plugin.deploy.graph_backend import SIDECAR, GraphBackend
from sdi_plugin.deploy.images import Picture

Array = NDArray[np.float32]

# Where a checkpoint does not say: ImageNet's, as the official training and most others normalise.
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LARGEST, TILE = 1024 * 1024, 512  # pixels of an image without a known size, above which it is cut into tiles
VOLUMES = "Give predict the model folder of nnU-Net, whose own reader and predictor it then uses."
_RUNTIMES = ("torch", "onnxruntime", "openvino")
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class Backend(Protocol):
    """What runs the network.

    Attributes:
        channels, classes: of the images and of the logits.
        card: see `sdi_plugin.checkpoint.Card`.
        identity: differs where results may differ.
        runtime: what runs it, in one word.
    """

    channels: int
    classes: int
    card: Card
    identity: str
    runtime: str

    def __call__(self, images: Array) -> Array:
        """Normalised images (B, C, H, W) -> logits (B, K, H, W)."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        mask: (H, W) uint8, the number of each pixel's label.
        probabilities: (K, H, W); for a network of one channel the foreground's alone.

    Examples:
        >>> from sdi_plugin.deploy import Predictor
        >>> prediction = Predictor("unetv2-smp")("case.jpg")
        >>> prediction.mask.shape, prediction.probabilities.shape
        ((64, 64), (1, 64, 64))
    """

    mask: NDArray[np.uint8]
    probabilities: Array


class Predictor:
    """Masks of images of any size and kind.

    A whole image is resized to the size of training, where the checkpoint says it, and its logits back to the image.
    With `tile`, and for images of more than 1024 x 1024 pixels whose size of training is not known, the image keeps its
    resolution and is cut into tiles, whose probabilities are averaged with Gaussian weights.

    Args:
        model: a checkpoint as `sdi_plugin.load` takes it, what `load` returned, or the model.json, or its folder, that
            `export` wrote. Of a stranger's exports take no .pt2: `torch.export.load` can run code of the file.
        size: (height, width) for the network, instead of the checkpoint's.
        tile: side of the tiles; images that are smaller stay whole, at their own size.
        overlap: share of a tile that neighbours have in common, 0 to 0.9.
        flips: average over the four mirror images.
        batch: images or tiles per call of the network.
        threshold: on the foreground's probability, for a network of one channel, instead of the checkpoint's.
        device: "cpu", "cuda", "auto" for a GPU where there is one.
        precision: "fp32", "bf16" or "fp16", by autocast; for an exported graph, that of the graph, or with OpenVINO
            another one that the processor has. By default that of the graph, and "fp32".
        threads: of the CPU; by default as many as the runtime chooses.
        runtime: "torch" for a checkpoint; "openvino" or "onnxruntime" for an exported graph; "auto" for the one that
            fits, of several the one that was fastest when `export` verified them. Refuses a model for another one.

    Attributes:
        card: what is known of the network, with what the arguments replace.
        labels: names of the classes, the background first.
        assumed: what the checkpoint does not say and was assumed, in words; the empty string where nothing was.

    Convention:
        One channel: sigmoid, foreground from the threshold on. More: softmax, the most probable label. Memory: one band
        of tiles, the mask, and the decoded image, unless it is large and libvips decodes it to a file (extra deploy).

    Raises:
        ValueError: an argument out of range, a network for volumes, a graph that its runtime cannot read or run; see
            also `sdi_plugin.load`.
        sdi_plugin.deploy.ImageError: an image that cannot be used.

    Examples:
        >>> from sdi_plugin.deploy import Predictor
        >>> predictor = Predictor("unetv2-smp", tile=32, flips=True)
        >>> predictor("case.jpg").mask.dtype
        dtype('uint8')
    """

    def __init__(
        self,
        model: Any,
        *,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: float = 0.5,
        flips: bool = False,
        batch: int = 4,
        threshold: float | None = None,
        device: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        runtime: str = "auto",
    ):
        if (tile is not None and tile < 32) or not 0 <= overlap <= 0.9 or batch < 1:
            raise ValueError(
                "Predictor: expected tile >= 32, overlap from 0 to 0.9 and batch >= 1, got "
                f"{tile=}, {overlap=}, {batch=}."
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"Predictor: expected a threshold from 0 to 1, got {threshold}.")
        if tile is not None and size is not None:
            raise ValueError("Predictor: expected size or tile, got both. Tiles keep the image's resolution.")
        self.backend: Backend = _backend(model, device, precision, threads, runtime)
        self.card = self.backend.card
        if getattr(self.backend, "dim", 2) != 2:
            raise ValueError(f"Predictor: expected a network for images, got one for volumes, {model}. {VOLUMES}")
        fixed = getattr(self.backend, "size", None)
        if fixed and (tile or (size or fixed) != fixed):
            raise ValueError(
                f"Predictor: expected no tile, and no size but {fixed}, the network's only one, got {tile=}, {size=}. "
                'Leave them out; of an encoder for any size, export the graph with size="dynamic".'
            )
        self.size = size or (None if tile else self.card.size)
        self.tile, self.overlap, self.batch = tile, overlap, batch
        if isinstance(self.backend, GraphBackend):
            self.backend.expect(self.size or (tile or TILE,) * 2)
        self.flips = _FLIPS if flips else _FLIPS[:1]
        self.threshold = self.card.threshold if threshold is None else threshold
        self.assumed = ""
        mean, std = self.card.mean, self.card.std
        if (mean is None or std is None) and not self.card.per_image:
            self.assumed = "the normalisation (ImageNet's)"
            mean, std = IMAGENET if self.backend.channels == 3 else ((127.5,), (127.5,))
        self._normalisation = None if mean is None or std is None else (np.array(mean), np.array(std))
        if self._normalisation and len(self._normalisation[0]) not in (1, self.backend.channels):
            raise ValueError(
                f"Predictor: expected a mean for each of {self.backend.channels} channels, got {mean}. "
                "The checkpoint's card does not fit its network."
            )

        self.labels = self._labels()
        self.card = replace(self.card, mean=mean, std=std, threshold=self.threshold, labels=self.labels)

    def _labels(self) -> tuple[str, ...]:
        if self.backend.classes == 1 and len(self.card.labels) != 2:
            return ("background", *(self.card.labels[-1:] or ("foreground",)))
        if self.backend.classes > 1 and len(self.card.labels) != self.backend.classes:
            return "background", *(f"class{index}" for index in range(1, self.backend.classes))
        return self.card.labels

    def __call__(self, image: str | Path | Image.Image | NDArray[Any]) -> Prediction:
        """The prediction for a file (its first page), an image of Pillow, or an array (H, W) or (H, W, C) of uint8."""
        if isinstance(image, str | Path):
            picture = next(images.pages(Path(image), self.backend.channels))
        elif isinstance(image, Image.Image):
            picture = images.from_image(image, self.backend.channels)
        else:
            picture = images.from_array(image, self.backend.channels)
        blocks = [block for _, block in self.blocks(picture)]
        probabilities = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, 1)
        return Prediction(self.mask(probabilities), probabilities)

    def mask(self, probabilities: Array) -> NDArray[np.uint8]:
        """The labels (H, W) for probabilities (K, H, W)."""
        if len(probabilities) == 1:
            return (probabilities[0] >= self.threshold).astype(np.uint8)
        return probabilities.argmax(0).astype(np.uint8)

    def blocks(self, picture: Picture) -> Iterator[tuple[int, Array]]:
        """Probabilities of an image as (first row, (K, rows, W)), from the top down, in bands."""
        if (tile := self._tile_for(picture)) is None:
            (logits,) = self._whole_logits([picture])
            for top in range(0, picture.size[0], TILE):
                yield top, _probabilities(_resize(logits, picture.size, top, top + TILE)[None])[0]
            return
        statistics = self._statistics(picture)

        def predict(boxes: list[tuple[int, int, int, int]]) -> Array:
            return _probabilities(self._logits(np.stack([_scaled(picture.crop(*box), statistics) for box in boxes])))

        yield from tiles.blend(picture.size, (tile, tile), self.overlap, self.batch, predict)

    def takes_whole(self, picture: Picture) -> bool:
        """Whether `whole` takes this picture in a batch with others: all are resized to one size, and none is large."""
        small = picture.size[0] * picture.size[1] <= LARGEST
        return small and self.size is not None and self._tile_for(picture) is None

    def whole(self, pictures: Sequence[Picture]) -> list[Array]:
        """Probabilities (K, H, W) of each picture, in one call of the network."""
        logits = self._whole_logits(pictures)
        return [_probabilities(_resize(one, each.size)[None])[0] for one, each in zip(logits, pictures, strict=True)]

    def _whole_logits(self, pictures: Sequence[Picture]) -> Array:
        """The logits (B, K, h, w) of whole pictures, at the size of the network."""
        size = self.size or pictures[0].size
        inputs = [
            self.normalised(each.resized(size) if each.size != size else each.crop(0, 0, *size), each)
            for each in pictures
        ]
        return self._logits(np.stack(inputs))

    def normalised(self, pixels: Array, picture: Picture) -> Array:
        """Pixels (C, H, W) of a picture, or of a part of it, as the network takes them."""
        return _scaled(pixels, self._statistics(picture))

    def _tile_for(self, picture: Picture) -> int | None:
        height, width = picture.size
        if self.tile is not None:
            return self.tile if max(height, width) > self.tile else None
        return TILE if self.size is None and height * width > LARGEST else None

    def _statistics(self, picture: Picture) -> tuple[Any, Any]:
        return picture.statistics() if self._normalisation is None else self._normalisation

    def _logits(self, inputs: Array) -> Array:
        """The mean logits over the mirror images."""
        total: Any = 0
        for axes in self.flips:
            mirrored = np.ascontiguousarray(np.flip(inputs, axes)) if axes else inputs
            total = total + np.flip(self.backend(mirrored), axes)
        return total / np.float32(len(self.flips))


def is_exported(model: str | Path) -> bool:
    """Whether a path is what `export` wrote, a model.json or its folder."""
    return _sidecar(model).suffix == ".json" and _sidecar(model).is_file()


def _sidecar(model: str | Path) -> Path:
    return Path(model, SIDECAR) if Path(model).is_dir() else Path(model)


def _backend(model: Any, device: str, precision: str | None, threads: int | None, runtime: str) -> Backend:
    if runtime not in ("auto", *_RUNTIMES):
        raise ValueError(f"Predictor: expected a runtime of auto, {', '.join(_RUNTIMES)}, got {runtime!r}.")
    if isinstance(model, str | Path):
        if is_exported(model):
            if device not in ("auto", "cpu"):
                raise ValueError(f"Predictor: expected the CPU for an exported graph, got {device}.")
            return GraphBackend(_sidecar(model), runtime, threads, precision)
    elif not hasattr(model, "network"):
        return model
    if runtime not in ("auto", "torch"):
        raise ValueError(f"Predictor: expected an exported graph for {runtime}, got {model}. Export it first.")
    from sdi_plugin.deploy.torch_backend import TorchBackend

    return TorchBackend(model, device, precision or "fp32", threads)


def _scaled(pixels: Array, statistics: tuple[Any, Any]) -> Array:
    mean, std = (np.asarray(each, np.float32)[:, None, None] for each in statistics)
    return ((pixels - mean) / np.maximum(std, 1e-8)).astype(np.float32, copy=False)


def _probabilities(logits: Array) -> Array:
    """Sigmoid or softmax over axis 1."""
    if logits.shape[1] == 1:
        return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32, copy=False)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def _resize(maps: Array, size: tuple[int, int], top: int = 0, bottom: int | None = None) -> Array:
    """(K, h, w) -> (K, *size), bilinear with align_corners=False, as the network resizes its logits; or some rows."""
    for axis, (length, first, last) in enumerate([(size[0], top, bottom), (size[1], 0, None)], 1):
        wanted = np.arange(length)[first:last]
        if maps.shape[axis] == length:
            maps = maps[:, first:last] if axis == 1 else maps
            continue
        places = np.clip((wanted + 0.5) * (maps.shape[axis] / length) - 0.5, 0, maps.shape[axis] - 1)
        low = places.astype(np.int64)
        share = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, maps.shape[axis] - 1)
        maps = maps.take(low, axis) * (1 - share) + maps.take(high, axis) * share
    return maps
