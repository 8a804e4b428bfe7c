"""What a run is defined by. Two runs of equal settings have equal results, and share one file name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Setting:
    """The parts of U-Net v2 that the study varies; the defaults are the package's, which follow the paper.

    Args:
        init: "paper" (torch's own start) or "unit" (the fused maps start at a standard deviation of about 1).
        norm: after the fusion: "none", "batch" or "layer".
        fusion: "product" or "asinh", see `sdi_plugin.SDI`.
        channels: C.
        combine: how the levels' terms are fused: "product", "sum", "concat" (and a 1x1 convolution) or "attention"
            (softmax weights over the levels, for each pixel).
        cbam: whether attention comes before the 1x1 reductions.
        heads: supervised levels, finest first: 1, 2, ... or "all".
        sum_term: add the loss of the sum of the heads (EMCAD's term).
        output: what predicts: the "finest" head or the "sum" of the heads.
        stride2: whether an encoder's level at stride 2, where it has one, is a level of SDI.
        logits_stride: of the finest head; 0 is that of the finest level.
        stem: a light level at stride 1: a 3x3 convolution of the image, added to the decoder's last sum.
    """

    init: str = "paper"
    norm: str = "none"
    fusion: str = "product"
    channels: int = 32
    combine: str = "product"
    cbam: bool = True
    heads: int | str = 2
    sum_term: bool = False
    output: str = "finest"
    stride2: bool = True
    logits_stride: int = 0
    stem: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"study: expected {name} in {allowed}, got {getattr(self, name)!r}.")
        if self.stem and self.logits_stride:
            raise ValueError("study: expected one of stem (logits at stride 1) and logits_stride, got both.")

    def changes(self) -> dict[str, Any]:
        """What differs from the paper's."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def title(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.changes().items()) or "paper's setting"


_ALLOWED = {
    "init": ("paper", "unit"),
    "norm": ("none", "batch", "layer"),
    "fusion": ("product", "asinh"),
    "combine": ("product", "sum", "concat", "attention"),
    "heads": (1, 2, 3, 4, 5, 6, "all"),
    "output": ("finest", "sum"),
    "logits_stride": (0, 2, 4),
}
PAPER = Setting()


@dataclass(frozen=True)
class Recipe:
    """How to train; one recipe for every network that is compared.

    Args:
        batch: images of one step, over all processes.
        rate, decay, clip: of AdamW, and the largest absolute value of a gradient's element.
        schedule: "cosine" after a linear warm-up over the first 5 % of the steps, or "constant".
        augment: random affine maps, brightness and contrast.
        scales: every batch is trained on at each of these sizes, relative to the run's.
        unweighted_bce: see `sdi_plugin.structure_loss`.
    """

    batch: int = 16
    rate: float = 1e-3
    decay: float = 1e-4
    clip: float = 0.5
    schedule: str = "cosine"
    augment: bool = True
    scales: tuple[float, ...] = (1.0,)
    unweighted_bce: bool = False


# "official": of the paper's polyp experiments, by its published code.
RECIPES = {
    "study": Recipe(),
    "official": Recipe(rate=1e-4, schedule="constant", augment=False, scales=(0.75, 1.0, 1.25), unweighted_bce=True),
}


@dataclass(frozen=True)
class Protocol:
    """What runs of one table have in common: only runs of one protocol are compared.

    Args:
        data: "polyps" or "isic2018".
        size: images are N x N pixels.
        encoder: a key of `encoders.ENCODERS`.
        start: of the encoder, "imagenet" or "random".
        epochs: passes over the training images.
        percent: share of the training images.
        recipe: a key of RECIPES.
        budget: "epochs", or "time": every network is given as many epochs as take the time of smp's Unet in `epochs`.
    """

    data: str = "polyps"
    size: int = 128
    encoder: str = "lite0"
    start: str = "imagenet"
    epochs: int = 4
    percent: int = 100
    recipe: str = "study"
    budget: str = "epochs"

    def __post_init__(self) -> None:
        if self.start not in ("imagenet", "random"):
            raise ValueError(f"study: expected a start of imagenet or random, got {self.start!r}.")
        if self.budget not in ("epochs", "time"):
            raise ValueError(f"study: expected a budget of epochs or time, got {self.budget!r}.")
        if self.recipe not in RECIPES:
            raise ValueError(f"study: expected a recipe of {', '.join(RECIPES)}, got {self.recipe!r}.")
        if self.size % 32 or self.size < 32 or self.epochs < 1 or not 1 <= self.percent <= 100:
            raise ValueError(f"study: expected a size in multiples of 32, 1 epoch or more and 1 to 100 %, got {self}.")

    @property
    def id(self) -> str:
        share = f"-{self.percent}pc" if self.percent < 100 else ""
        recipe = f"-{self.recipe}" if self.recipe != "study" else ""
        return f"{self.data}-{self.size}-{self.encoder}-{self.start}-{self.budget[0]}{self.epochs}{share}{recipe}"


@dataclass(frozen=True)
class Run:
    """One network, trained once.

    Args:
        network: "unetv2", or a key of `network.CONTENDERS`.
        setting: of U-Net v2; the defaults for contenders, which have none.
        own_epochs: of this network, with the budget "time".
    """

    protocol: Protocol
    network: str = "unetv2"
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    own_epochs: int | None = None

    @property
    def epochs(self) -> int:
        return self.own_epochs or self.protocol.epochs

    @property
    def contender(self) -> str:
        """The network and its setting: what a row of a table is about."""
        changes = "".join(f"-{name}={value}" for name, value in self.setting.changes().items())
        return f"{self.network}{changes}"

    @property
    def id(self) -> str:
        return f"{self.protocol.id}/{self.contender}-s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"recipe": asdict(RECIPES[self.protocol.recipe])}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Run":
        setting, protocol = Setting(**document["setting"]), Protocol(**document["protocol"])
        return cls(protocol, document["network"], setting, document["seed"], document["own_epochs"])
