"""The goals for the fused op on two cores, and how a result compares with them."""

from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.sdi.result import Result

STAGES_2D = ("2d-stage-352-b1", "2d-stage-352-b4")
STAGE_3D = ("3d-stage-64-l5",)
ATTENTION_2D = ("2d-attention-352-b1",)
DECODERS_2D = ("2d-decoder-352-b1", "2d-decoder-352-b4")
DECODER_3D = ("3d-decoder-64-l5",)
_WITH_ERRORS = (*STAGES_2D, *STAGE_3D, *ATTENTION_2D, *DECODERS_2D, *DECODER_3D)
_BOTH = "forward+backward"


@dataclass(frozen=True)
class Goal:
    """A bound on one figure of some cases, at the largest number of threads; for a ratio of times, a lower bound."""

    text: str
    names: tuple[str, ...]
    mode: str
    figure: str
    bound: float

    @property
    def is_lower(self) -> bool:
        return self.figure.startswith("ratio_vs")

    def is_met(self, measured: float) -> bool:
        return measured >= self.bound if self.is_lower else measured <= self.bound


GOALS = (
    Goal("2-D stage, 352, forward, against eager", STAGES_2D, "forward", "ratio_vs_eager", 2.5),
    Goal("2-D stage, 352, forward, against torch.compile", STAGES_2D, "forward", "ratio_vs_compile", 2.0),
    Goal("2-D stage, 352, forward + backward, against eager", STAGES_2D, _BOTH, "ratio_vs_eager", 2.0),
    Goal("3-D stage, 64, forward, against eager", STAGE_3D, "forward", "ratio_vs_eager", 3.5),
    Goal("3-D stage, 64, forward + backward, against eager", STAGE_3D, _BOTH, "ratio_vs_eager", 3.0),
    Goal("bytes saved for backward, 2-D stage", STAGES_2D, _BOTH, "saved_bytes_ratio", 1 / 8),
    Goal("bytes saved for backward, 3-D stage", STAGE_3D, _BOTH, "saved_bytes_ratio", 1 / 8),
    Goal("peak extra memory, training forward, 3-D stage", STAGE_3D, _BOTH, "peak_bytes_ratio", 1 / 3),
    Goal("2-D attention, 352, forward, against eager", ATTENTION_2D, "forward", "ratio_vs_eager", 2.5),
    Goal("2-D attention, 352, forward + backward, against eager", ATTENTION_2D, _BOTH, "ratio_vs_eager", 3.0),
    Goal("2-D decoder, 352, forward, against eager", DECODERS_2D, "forward", "ratio_vs_eager", 2.5),
    Goal("2-D decoder, 352, forward + backward, against eager", DECODERS_2D, _BOTH, "ratio_vs_eager", 2.5),
    Goal("3-D decoder, 64, forward + backward, against eager", DECODER_3D, _BOTH, "ratio_vs_eager", 3.5),
    Goal("3-D training step, against nnU-Net's network", ("nnunet-step-3d-64",), _BOTH, "ratio_vs_eager", 1 / 0.65),
    Goal("2-D training step, against nnU-Net's network", ("nnunet-step-2d-256",), _BOTH, "ratio_vs_eager", 1 / 0.55),
    Goal("worst error against float64", _WITH_ERRORS, _BOTH, "error_ratio", 2.0),
)


class Check(NamedTuple):
    """One goal in one case; `measured` and `met` are None if there is no figure."""

    goal: Goal
    name: str
    measured: float | None
    met: bool | None


def check(result: Result) -> list[Check]:
    """One row per goal and measured case."""
    most = max((row.threads for row in result.cases), default=0)
    checks = []
    for goal in GOALS:
        for row in result.cases:
            if row.name in goal.names and row.mode == goal.mode and row.threads == most:
                measured = getattr(row, goal.figure)
                checks.append(Check(goal, row.name, measured, None if measured is None else goal.is_met(measured)))
    return checks
