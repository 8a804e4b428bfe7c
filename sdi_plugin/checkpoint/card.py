"""What is known of a network besides its weights: how its images are prepared, what its channels mean, its origin."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdi_plugin.checkpoint.errors import CheckpointError

KEY = "card"  # under which files of torch.save and safetensors hold a card as JSON; in config.json it is _card


@dataclass(frozen=True)
class Card:
    """What is known of a network besides its weights. Whatever a file does not say is empty or None.

    Attributes:
        mean, std: of the training images, one per channel, for pixels from 0 to 255.
        per_image: each channel of each image is normalised by its own mean and deviation instead, as nnU-Net does.
        size: (height, width) to which whole images are resized for the network; None where they keep their size.
        labels: names of the classes, the background first. A network of one channel has two.
        threshold: on the probability of the foreground, for a network of one channel.
        summed_heads: number of heads, finest first, whose logits are added.
        architecture: "framework" and the "arguments" that build the network there.
        metrics: scores by name.
        data: "name" and "licence" of the training data.
        versions: of the packages with which it was trained or converted.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> card = checkpoint.Card(mean=(127.5,) * 3, std=(127.5,) * 3, labels=("background", "polyp"))
        >>> checkpoint.Card.from_json(card.to_json()) == card
        True
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    per_image: bool = False
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()
    threshold: float = 0.5
    summed_heads: int = 1
    architecture: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card that `to_json` wrote, perhaps in another version: names that this one does not have are left out.

        Raises:
            CheckpointError: not such a text.
        """
        try:
            found = json.loads(text)
            values = {name: _VALID[name](value) for name, value in found.items() if name in _VALID}
            card = cls(**values)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
            said = str(text)[:60]  # in a stranger's config.json it may be anything
            raise CheckpointError(f"expected a card as sdi_plugin writes it, got {said!r} ({error}).") from error
        if (card.mean is None) != (card.std is None) or len(card.mean or ()) != len(card.std or ()):
            raise CheckpointError(
                f"expected a card with a mean and a deviation per channel, got {card.mean=} {card.std=}."
            )
        return card


_PIXELS = 1 << 26  # no network trains on larger images; a damaged card would claim all memory


def _numbers(value: Any) -> tuple[float, ...] | None:
    return None if value is None else tuple(float(each) for each in value)


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = (int(each) for each in value)
    if min(height, width) < 1 or height * width > _PIXELS:
        raise ValueError(f"a size of {value}")
    return height, width


_VALID: dict[str, Any] = {
    "mean": _numbers,
    "std": _numbers,
    "per_image": bool,
    "size": _size,
    "labels": lambda value: tuple(str(each) for each in value),
    "threshold": float,
    "summed_heads": int,
    "architecture": dict,
    "metrics": lambda value: {str(name): float(score) for name, score in value.items()},
    "data": lambda value: {str(name): str(each) for name, each in value.items()},
    "versions": dict,
}
