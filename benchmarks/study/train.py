"""Training that a kill at any moment cannot spoil: the result is a function of the run's settings alone.

Every epoch draws its order and changes from (seed, epoch), and ends in a checkpoint that replaces the last one
atomically. A resumed run repeats what the killed one would have done, bit for bit on the same machine.
"""

import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.study import batches, network
from benchmarks.study.encoders import ENCODERS
from benchmarks.study.images import Images
from benchmarks.study.processes import ALONE, Processes
from benchmarks.study.settings import RECIPES, Run
from sdi_plugin import StructureLoss, checkpoint

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"


@dataclass
class Trained:
    """A network and how its training went.

    Attributes:
        start: the encoder's initial weights, in words.
        losses: the mean loss of each epoch.
        seconds: training time of each epoch.
        images: number of images seen, in all epochs together.
        diverged: the epoch, from 1, in which the loss became infinite or nan; the run ends there.
    """

    model: nn.Module
    start: str
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images: int = 0
    diverged: int | None = None


def train(
    run: Run,
    images: Images,
    folder: Path,
    *,
    device: str = "cpu",
    weights: Path | None = None,
    processes: Processes = ALONE,
    most_steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Trained:
    """Train, or resume from the checkpoint in `folder`.

    Args:
        weights: see `load_imagenet`.
        most_steps: end each epoch after this many batches; for tests.
    """
    _be_deterministic()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CHECKPOINT
    model, start = network.build(run, weights)
    model.to(device)
    model.to(memory_format=torch.channels_last)  # an eighth to a quarter less time on CPUs, for every network
    recipe = RECIPES[run.protocol.recipe]
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    trained = Trained(model, start)
    if file.exists():
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location=device)
        if state["run"] != run.id:
            raise ValueError(f"study: {file} is of the run {state['run']}, not of {run.id}. Remove it.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for key in ("losses", "seconds", "images", "diverged"):
            setattr(trained, key, state[key])
    wrapped = processes.wrap(model)
    while len(trained.losses) < run.epochs and trained.diverged is None:
        begun, number = time.perf_counter(), len(trained.losses)
        torch.manual_seed(run.seed * 1_000_003 + number + 1)
        loss, seen = _epoch(run, wrapped, optimizer, images, number, device, processes, most_steps)
        trained.images += seen
        if math.isfinite(loss):
            trained.losses.append(loss)
        else:
            trained.diverged = number + 1
        trained.seconds.append(time.perf_counter() - begun)
        say(f"{run.id}: epoch {number + 1}/{run.epochs}, loss {loss:.4f}, {trained.seconds[-1]:.1f} s")
        if processes.first:
            _save(file, run, trained, optimizer)
        processes.wait()
    return trained


def _epoch(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    number: int,
    device: str,
    processes: Processes,
    most_steps: int | None,
) -> tuple[float, int]:
    """One pass over the images. Returns the mean loss and how many images were seen, of all processes."""
    recipe, encoder = RECIPES[run.protocol.recipe], ENCODERS[run.protocol.encoder]
    steps = min(batches.steps_of(len(images), recipe), most_steps or len(images))
    losses = []
    model.train()
    for step, (pixels, masks) in enumerate(itertools.islice(batches.epoch(images, recipe, processes.part), steps)):
        for group in optimizer.param_groups:
            group["lr"] = batches.rate(recipe, (number + step / steps) / run.epochs)
        for scale in recipe.scales:
            scaled, targets = batches.at_scale(pixels.to(device), masks.to(device), scale)
            optimizer.zero_grad(set_to_none=True)
            inputs = encoder.normalise(scaled).contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(inputs), targets, run)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), recipe.clip)
            optimizer.step()
            losses.append(loss.item())
    return processes.mean(sum(losses) / len(losses)), steps * min(recipe.batch, len(images))


def loss_of(outputs: Tensor | list[Tensor], masks: Tensor, run: Run) -> Tensor:
    """The structure loss of every head, summed, and of the heads' sum if the setting has that term."""
    structure = StructureLoss(RECIPES[run.protocol.recipe].unweighted_bce)
    heads = [outputs] if isinstance(outputs, Tensor) else outputs
    if run.setting.sum_term and len(heads) > 1:
        heads = [*heads, torch.stack(heads).sum(0)]
    return torch.stack([structure(logits, masks) for logits in heads]).sum()


def save_weights(model: nn.Module, folder: Path) -> None:
    """Keep the trained network and drop the checkpoint, whose optimizer is three times its size."""
    checkpoint.save_torch(folder / WEIGHTS, model.state_dict())
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _save(file: Path, run: Run, trained: Trained, optimizer: torch.optim.Optimizer) -> None:
    state = {key: value for key, value in vars(trained).items() if key not in ("model", "start")}
    state |= {"run": run.id, "model": trained.model.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save_torch(file, state)


def _be_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Guards against reading what was never written, at the cost of writing every tensor twice.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (a property of the module)
