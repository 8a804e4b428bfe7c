"""The settings that define a run of the demo."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The settings that define a run; a resumed run must agree in all of them."""

    encoder: str
    size: int
    epochs: int
    seed: int
    data: str
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 0.5
