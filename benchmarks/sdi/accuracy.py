"""The errors of a contender's outputs and gradients against float64."""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.sdi.cases import Case
from benchmarks.sdi.contenders import EAGER, OURS, Contender, build

_LARGEST_VOLUME = 32


def errors(case: Case, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Relative errors of eager and ours against eager in float64, over all tensors of a kind together.

    Volumes are limited to 32 voxels per axis: eager's float64 convolutions unfold larger ones into many gigabytes.

    Returns:
        For "output" and each kind of gradient: {contender: |result - exact| / |exact|}, Euclidean norms.
    """
    if case.dim == 3:
        case = replace(case, size=min(case.size, _LARGEST_VOLUME))
    exact = _results(build(case, EAGER, dtype=torch.float64, device=device))
    found: dict[str, dict[str, float]] = {kind: {} for kind in exact}
    for name in (EAGER, OURS):
        for kind, result in _results(build(case, name, device=device)).items():
            found[kind][name] = float((result - exact[kind]).norm() / exact[kind].norm())
    return found


def worst_ratio(found: dict[str, dict[str, float]]) -> float:
    """Ours over eager, for the kind with the largest ratio."""
    return max(error[OURS] / error[EAGER] for error in found.values())


def _results(contender: Contender) -> dict[str, Tensor]:
    outputs = contender.call()
    gradients = torch.autograd.grad(outputs, contender.leaves, contender.cotangents(outputs))
    groups: dict[str, list[Tensor]] = {"output": [y.detach() for y in outputs]}
    for kind, gradient in zip(contender.kinds, gradients, strict=True):
        groups.setdefault(kind, []).append(gradient)
    return {kind: torch.cat([t.double().flatten() for t in tensors]) for kind, tensors in groups.items()}
