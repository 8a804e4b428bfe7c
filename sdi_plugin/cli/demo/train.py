"""Training that a kill at any moment cannot corrupt: the result is a function of the recipe alone.

Every epoch draws its order, augmentation and stochastic depth from (seed, epoch), and ends in a checkpoint that
replaces the last one atomically. A resumed run therefore repeats what the killed one would have done, bit for bit.
"""

import ctypes
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sdi_plugin import DeepSupervisionLoss, SegmentationMetrics, StructureLoss, frameworks
from sdi_plugin.adapters.smp import UNetV2
from sdi_plugin.checkpoint import Card, save_torch
from sdi_plugin.checkpoint.card import KEY
from sdi_plugin.cli.demo import checkpoint, network
from sdi_plugin.cli.demo.dataset import Data, Split
from sdi_plugin.cli.demo.recipe import Recipe
from sdi_plugin.cli.errors import CommandError

MEAN, STD = 127.5, 127.5  # for pixels from 0 to 255: the network sees -1 to 1


@dataclass(frozen=True)
class Run:
    recipe: Recipe
    model: UNetV2
    history: list[dict[str, float]]
    pretrained: str
    seconds: float


def train(recipe: Recipe, data: Data, out: Path) -> Run:
    """Train, or continue from the checkpoint in `out`, and return the trained network in eval mode.

    Raises:
        CommandError: the encoder is unknown or does not take images of this size; the batch does not fit into memory;
            the checkpoint is of another recipe, damaged or incomplete. It is kept as it is.
    """
    _keep_freed_memory()
    _be_deterministic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    file = out / checkpoint.NAME
    state = checkpoint.read(file, recipe)
    torch.manual_seed(recipe.seed)
    model, pretrained = network.build(recipe)
    network.check_memory(model, recipe, min(recipe.batch, len(data.train.names)), device)
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (a quarter faster)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    history, seconds = [], 0.0
    if state is not None:
        checkpoint.restore(file, state, model, optimizer)
        history, seconds, pretrained = state["history"], state["seconds"], state["pretrained"]
    out.mkdir(parents=True, exist_ok=True)
    print(f"the encoder {recipe.encoder} starts from {pretrained}", flush=True)
    for epoch in range(len(history), recipe.epochs):
        start = time.perf_counter()
        loss = _epoch(recipe, model, optimizer, data.train, epoch)
        dice = evaluate(model, data.test, recipe.batch).compute()["mean_dice"]
        history.append({"epoch": epoch + 1, "loss": loss, "mean_dice": dice})
        seconds += time.perf_counter() - start
        print(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.4f}, held-out mean Dice {dice:.4f}", flush=True)
        state = {
            "recipe": json.dumps(asdict(recipe)),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "seconds": seconds,
            "pretrained": pretrained,
            KEY: card(recipe, model, data).to_json(),
        }
        save_torch(file, state)
    return Run(recipe, model.eval(), history, pretrained, seconds)


def card(recipe: Recipe, model: UNetV2, data: Data) -> Card:
    """What `sdi_plugin.load` needs besides the weights."""
    return Card(
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        size=(recipe.size, recipe.size),
        labels=("background", "foreground"),
        architecture={"framework": "smp", "arguments": {k: v for k, v in model.config.items() if k[0] != "_"}},
        data={"name": data.title} | ({"licence": data.licence} if data.licence else {}),
        versions=frameworks.versions(),
    )


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, size: Sequence[int]) -> Tensor:
    """Probabilities (N, 1, *size) on the CPU; logits are resized as the official test does, then the sigmoid."""
    device = next(model.parameters()).device
    logits = model(_normalise(images.to(device, memory_format=torch.channels_last)))
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False).sigmoid().cpu()


def evaluate(model: nn.Module, split: Split, batch: int, *, hd95: bool = False) -> SegmentationMetrics:
    """The metrics of a split, each mask at its own size."""
    model.eval()
    metrics = SegmentationMetrics(hd95=hd95)
    for start in tqdm(range(0, len(split.names), batch), desc="evaluating", leave=False, disable=None):
        images, masks = split.images[start : start + batch], split.masks[start : start + batch]
        if len({mask.shape for mask in masks}) == 1:
            metrics.update(predict(model, images, masks[0].shape[1:]), torch.stack(masks))
            continue
        for image, mask in zip(images, masks, strict=True):
            metrics.update(predict(model, image[None], mask.shape[1:]), mask[None])
    return metrics


def _epoch(recipe: Recipe, model: nn.Module, optimizer: torch.optim.Optimizer, split: Split, epoch: int) -> float:
    torch.manual_seed(recipe.seed * 1_000_003 + epoch + 1)
    device = next(model.parameters()).device
    criterion = DeepSupervisionLoss(StructureLoss())
    count = len(split.names)
    batch = min(recipe.batch, count)
    steps = count // batch  # the remainder is dropped, a different one every epoch
    order = torch.randperm(count)
    masks = torch.stack(split.masks)
    total = 0.0
    model.train()
    for step in tqdm(range(steps), desc=f"epoch {epoch + 1}/{recipe.epochs}", leave=False, disable=None):
        rate = _learning_rate(recipe, (epoch * steps + step) / (recipe.epochs * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = order[step * batch : (step + 1) * batch]
        images, targets = _augment(_normalise(split.images[chosen]), masks[chosen].float())
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(images.to(device, memory_format=torch.channels_last)), targets.to(device))
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), recipe.clip)
        optimizer.step()
        total += loss.item()
    if not math.isfinite(total):
        raise CommandError(f"demo: the loss became {total} in epoch {epoch + 1}. Try another --seed.")
    return total / steps


def _learning_rate(recipe: Recipe, progress: float) -> float:
    """A linear warm-up over the first 5 %, then a cosine to zero."""
    warm_up = 0.05
    if progress < warm_up:
        return recipe.learning_rate * (progress + 1e-3) / warm_up
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _normalise(images: Tensor) -> Tensor:
    return (images.float() - MEAN) / STD


def _augment(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """One random affine map, brightness and contrast for each image (B, 3, H, W) and its mask (B, 1, H, W)."""
    count = len(images)
    angle = torch.rand(count) * 2 * math.pi
    zoom = torch.empty(count).uniform_(0.8, 1.25)
    flip = torch.randint(0, 2, (count,)) * 2.0 - 1.0
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.stack(
        [torch.stack([cos * flip, -sin, torch.zeros(count)], 1), torch.stack([sin * flip, cos, torch.zeros(count)], 1)],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    masks = F.grid_sample(masks, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    gain = torch.empty(count, 3, 1, 1).uniform_(0.85, 1.15)
    offset = torch.empty(count, 1, 1, 1).uniform_(-0.15, 0.15)
    return images * gain + offset, masks


def _be_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # torch's guard against reading uninitialised memory costs time, and nothing here reads any.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (a property of the module)
    torch.backends.cudnn.benchmark = False


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory: otherwise training on a CPU faults every large tensor in again (7x slower)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # not glibc
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 256 * 2**20)
