"""Reading the checkpoint that a run continues from: either all of it fits, or it is an error and the file is kept."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sdi_plugin.adapters.smp import UNetV2
from sdi_plugin.cli.demo.recipe import Recipe
from sdi_plugin.cli.errors import CommandError

NAME = "checkpoint.pt"


def read(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The state in the file, None where there is none; `restore` loads its weights.

    Raises:
        CommandError: the checkpoint is of another recipe, damaged or incomplete.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        saved = dict(json.loads(state["recipe"]))
    except Exception as error:  # torch.load raises many kinds of errors; after any of them the file cannot be used
        raise CommandError(f"demo: {path} is not a checkpoint of the demo ({error}). Pass another --out.") from error
    differing = [
        "other images" if key == "data" else f"{key} {saved.get(key)} -> {value}"
        for key, value in asdict(recipe).items()
        if saved.get(key) != value
    ]
    if differing:
        raise CommandError(
            f"demo: {path} belongs to another run ({'; '.join(differing)}). Resume with its settings, "
            "pass another --out, or remove the folder."
        )
    history = state.get("history")
    if not isinstance(history, list) or not 1 <= len(history) <= recipe.epochs:
        raise _damaged(path, "no history of its epochs")
    for number, entry in enumerate(history, 1):
        values = [entry.get(key) for key in ("epoch", "loss", "mean_dice")] if isinstance(entry, dict) else []
        if not all(isinstance(value, int | float) for value in values) or values[:1] != [number]:
            raise _damaged(path, f"no losses and scores of epoch {number}")
    if not isinstance(state.get("seconds"), int | float) or not isinstance(state.get("pretrained"), str):
        raise _damaged(path, "neither its time nor where it started from")
    return state


def restore(path: Path, state: dict[str, Any], model: UNetV2, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer; what does not fit is an error before anything is trained or written."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for name, parameter in model.named_parameters():
            moments = optimizer.state[parameter] if parameter.requires_grad else {}
            if parameter.requires_grad and not {"step", "exp_avg", "exp_avg_sq"} <= moments.keys():
                raise ValueError(f"the optimizer has no state of {name}")
            for key in moments.keys() - {"step"}:
                if moments[key].shape != parameter.shape:
                    raise ValueError(f"the optimizer's {key} of {name} is {tuple(moments[key].shape)}")
    except Exception as error:  # missing keys, other shapes, values of other kinds
        raise _damaged(path, f"weights or optimizer that do not fit ({error})") from error


def _damaged(path: Path, what: str) -> CommandError:
    return CommandError(
        f"demo: cannot resume from {path}: it holds {what}. It was left as it is. Restore it from a copy, or pass "
        "another --out to start again."
    )
