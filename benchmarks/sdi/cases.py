"""The cases by name, and their inputs: contiguous (B, C, *S) leaf tensors from one seed, equal for every contender."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

CHANNELS = 32  # C of the paper's decoder
WIDTHS = (64, 128, 320, 512)  # channels of PVTv2-B2's levels, which the attention reads in 2-D
PLAN_WIDTHS = (32, 64, 128, 256, 320, 320)  # and those of a 3-D plan of nnU-Net
ENCODER = "pvt_v2_b2"

# The cases of the goals; measured at every number of threads.
QUICK = ("2d-stage-352-b1", "2d-stage-352-b4", "3d-stage-64-l5")
# The cases of the goals for what is around SDI; measured by --decoder alone, and by --quick.
DECODER = (
    "2d-attention-352-b1",
    "2d-decoder-352-b1",
    "2d-decoder-352-b4",
    "3d-decoder-64-l5",
    "nnunet-step-3d-64",
    "nnunet-step-2d-256",
)
SIZES = tuple(f"2d-stage-{size}-b1" for size in (128, 256, 512, 768, 1024))
LEVELS = (
    "2d-stage-512-l2-b1",
    "2d-stage-512-l3-b1",
    "2d-stage-512-b1",  # four levels
    "2d-stage-512-l5-b1",
    "2d-stage-512-l6-b1",
)
# The points of the two plotted lines: timed in turn with each other, so that changes of the machine affect all of them.
SCALING = tuple(dict.fromkeys((*SIZES, *LEVELS)))
FULL = (
    *QUICK,
    "3d-stage-96-l6",
    *(f"2d-level{level}-352-b1" for level in range(1, 5)),
    *(f"3d-level{level}-64-l5" for level in range(1, 6)),
    *DECODER,
    "2d-network-256-b1",
    "2d-network-352-b1",
    "2d-stage-352-b1-bf16",
    *SCALING,
)

_NAME = re.compile(
    r"(?P<step>nnunet-step-)?(?P<dim>[23])d-"
    r"((?P<kind>stage|level(?P<level>\d+)|attention|decoder|network)-)?(?P<size>\d+)"
    r"(-l(?P<levels>\d+))?(-b(?P<batch>\d+))?(-(?P<dtype>bf16))?"
)
_EXPECTED = (
    "stage-SIZE, levelN-SIZE (level 1 the finest), attention-SIZE or decoder-SIZE after 2d- or 3d-, or "
    "2d-network-SIZE, then any of -lLEVELS, -bBATCH, -bf16; or nnunet-step-2d-SIZE or nnunet-step-3d-SIZE, then any "
    "of -lLEVELS, -bBATCH; for example 2d-stage-352-b1 or 3d-stage-64-l5"
)


def groups(names: Iterable[str]) -> list[tuple[str, list["Case"]]]:
    """The cases that are timed in turn: the members of SCALING together, every other case only with its contenders.

    Returns:
        (name of the group, its cases), in the order of the first members.

    Raises:
        ValueError: an unknown name; the message says which.
    """
    found: dict[str, list[Case]] = {}
    for name in dict.fromkeys(names):
        found.setdefault("scaling" if name in SCALING else name, []).append(Case.parse(name))
    return list(found.items())


class Inputs(NamedTuple):
    """xs: L maps (B, C, *S_j), fine to coarse; weights, biases: one 3x3 (3x3x3) convolution per target and level."""

    xs: list[Tensor]
    weights: list[Tensor]
    biases: list[Tensor]


@dataclass(frozen=True)
class Case:
    """One workload.

    `size` is the size of a square image in 2-D, whose finest map is a quarter of it, and of the finest map in 3-D and
    of nnU-Net's plans.
    """

    name: str
    dim: int
    # stage: SDI at all levels; level: at one; attention: attention and reduction; decoder: the whole one, with a head;
    # network: UNetV2; step: the networks of a plan of nnU-Net
    kind: str
    size: int
    levels: int
    batch: int
    dtype: torch.dtype
    level: int  # the target of kind "level"; 0 is the finest

    @classmethod
    def parse(cls, name: str) -> "Case":
        """The case with a name; the ValueError for an unknown one lists the possible names."""
        match = _NAME.fullmatch(name)
        if match is None or bool(match["step"]) == bool(match["kind"]):
            raise ValueError(f"benchmark: unknown case {name!r}. Expected {_EXPECTED}.")
        dim, level = int(match["dim"]), int(match["level"] or 1)
        kind = "step" if match["step"] else "level" if match["level"] else match["kind"]
        levels, batch = {(2, "step"): (6, 4), (3, "step"): (5, 2)}.get((dim, kind), (4 if dim == 2 else 5, 1))
        case = cls(
            name=name,
            dim=dim,
            kind=kind,
            size=int(match["size"]),
            levels=int(match["levels"] or levels),
            batch=int(match["batch"] or batch),
            dtype=torch.bfloat16 if match["dtype"] else torch.float32,
            level=level - 1,
        )
        if (
            min(case.size, case.levels, case.batch, level) < 1
            or level > case.levels
            or (case.has_encoder and case.levels > len(case.widths))
            or (kind == "network" and (dim != 2 or case.levels != len(WIDTHS)))
            or (kind in ("attention", "decoder", "network", "step") and match["dtype"])
        ):
            raise ValueError(f"benchmark: case {name!r} does not exist. Expected {_EXPECTED}.")
        return case

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the features that the attention reads."""
        return (WIDTHS if self.dim == 2 else PLAN_WIDTHS)[: self.levels]

    @property
    def has_encoder(self) -> bool:
        """Whether the inputs are an encoder's features, or its images."""
        return self.kind in ("attention", "decoder", "network")

    @property
    def is_network(self) -> bool:
        """Whether a whole network is measured, whose errors say little about ours."""
        return self.kind in ("network", "step")

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """S_j of every level, fine to coarse."""
        stride = 4 if self.dim == 2 else 1
        return [(math.ceil(self.size / (stride << j)),) * self.dim for j in range(self.levels)]

    @property
    def targets(self) -> list[int]:
        return [self.level] if self.kind == "level" else list(range(self.levels))

    def inputs(self, dtype: torch.dtype, device: str) -> Inputs:
        """Maps distributed as after batch norm, weights scaled as by torch; rounded to the case's dtype first."""
        generator = torch.Generator().manual_seed(0)
        scale = 1 / math.sqrt(CHANNELS * 3**self.dim)

        def leaf(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        xs = [leaf(self.batch, CHANNELS, *size) for size in self.sizes]
        number = len(self.targets) * self.levels
        weights = [leaf(CHANNELS, CHANNELS, *[3] * self.dim) * scale for _ in range(number)]
        biases = [leaf(CHANNELS) * scale for _ in range(number)]
        return Inputs(*([self._leaf(t, dtype, device) for t in group] for group in (xs, weights, biases)))

    def features(self, dtype: torch.dtype, device: str) -> list[Tensor]:
        """An encoder's maps (B, widths[j], *S_j), fine to coarse."""
        generator = torch.Generator().manual_seed(0)
        maps = (
            torch.randn(self.batch, width, *s, generator=generator)
            for width, s in zip(self.widths, self.sizes, strict=True)
        )
        return [self._leaf(x, dtype, device) for x in maps]

    def image(self, device: str, channels: int = 3) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, channels, *(self.size,) * self.dim, generator=generator).to(device)

    def _leaf(self, tensor: Tensor, dtype: torch.dtype, device: str) -> Tensor:
        return tensor.to(self.dtype).to(device, dtype).requires_grad_()

    def product_flops(self) -> int | None:
        """FLOPs of the forward's channel mixings if each of SDI's is done at the lower of the two resolutions.

        2 B C^2 3^dim prod(min(S_source, S_target)), summed over targets and levels: unavoidable without Winograd or
        Fourier transforms. For the attention 2 B C_in C prod(S), summed over the levels; for a decoder both, and its
        transposed convolutions. None for networks.
        """
        if self.is_network:
            return None
        pixels = [math.prod(size) for size in self.sizes]
        attended = sum(width * n for width, n in zip(self.widths, pixels, strict=True)) if self.has_encoder else 0
        mixed = sum(3**self.dim * min(source, pixels[target]) for target in self.targets for source in pixels)
        raised = 4**self.dim * sum(pixels[1:])
        parts = {"attention": attended, "decoder": attended + CHANNELS * (mixed + raised)}
        return 2 * self.batch * CHANNELS * parts.get(self.kind, CHANNELS * mixed)
