"""What each network costs: parameters, operations, bytes kept for backward, and times in turns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import environment
from benchmarks.memory import saved_bytes
from benchmarks.sdi.measure import interleave
from benchmarks.study import network, plan
from benchmarks.study.plan import Contest
from benchmarks.study.settings import PAPER, RECIPES, Protocol, Run
from benchmarks.study.store import Document, Store, write
from benchmarks.study.train import loss_of
from sdi_plugin.ops import flops as flops  # counts the fused op's


def measure(store: Store, *, rounds: int = 5, seconds: float = 60.0, say: Callable[[str], None] = print) -> None:
    """Measure the networks of every size and encoder that has results, and store what is not there yet.

    All networks of a file are measured in turn, so that it is made anew where another setting has become the best.
    Nothing else should run meanwhile; the load before is recorded.

    Args:
        rounds, seconds: the fewest rounds of all networks in turn, and the time after which no other one begins.
    """
    contests = [entry for entry in plan.SEQUENCE if isinstance(entry, Contest)]
    best = plan.chosen(store).setting
    begun = {store.cost_file(Run.from_json(document["run"]).protocol) for document in store.all()}
    names = {store.cost_file(entry.protocol): entry.protocol for entry in contests}
    for file, protocol in names.items():
        wanted = Run(protocol, setting=best).contender
        if file in begun and wanted not in (store.cost(protocol) or {}).get("networks", {}):
            entries = [entry for entry in contests if store.cost_file(entry.protocol) == file]
            networks = dict.fromkeys(name for entry in entries for name in entry.networks)
            write(file, of(protocol, list(networks), best, rounds=rounds, seconds=seconds))
            say(f"cost: {file.name}")


def of(protocol: Protocol, networks: list[str], recommended: Any, *, rounds: int, seconds: float) -> Document:
    """The document of one size and encoder; "paper" and "recommended" are U-Net v2."""
    settings = {"paper": PAPER, "recommended": recommended}
    runs = [Run(protocol, "unetv2" if name in settings else name, settings.get(name, PAPER)) for name in networks]
    measured: dict[str, Any] = {}
    steps, inferences = {}, {}
    for run in runs:
        model, _ = network.build(Run(_at_random(protocol), run.network, run.setting))
        model.to(memory_format=torch.channels_last)  # as in training
        measured[run.contender] = {"run": run.to_json(), **_counts(model, run)}
        steps[run.contender], inferences[run.contender] = _step(model, run), _inference(model, run)
    for key, functions in (("step_ms", steps), ("inference_ms", inferences)):
        timings, _ = interleave(functions, rounds=rounds, seconds=seconds)
        for contender, timing in timings.items():
            measured[contender][key] = vars(timing)
    return {
        "networks": measured,
        "batch": RECIPES[protocol.recipe].batch,
        "threads": torch.get_num_threads(),
        "machine": environment.machine(),
        "commit": environment.commit(),
        "environment": environment.settings(),
    }


def _counts(model: nn.Module, run: Run) -> dict[str, Any]:
    images, masks = _inputs(run)
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images[:1])
    model.train()
    _, kept = saved_bytes(lambda: loss_of(model(images), masks, run), model.parameters())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "gmac": counter.get_total_flops() / 2e9, "saved_bytes": kept}


def _step(model: nn.Module, run: Run) -> Callable[[], None]:
    images, masks = _inputs(run)
    recipe = RECIPES[run.protocol.recipe]
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss_of(model(images), masks, run).backward()
        nn.utils.clip_grad_value_(model.parameters(), recipe.clip)
        optimizer.step()

    return step


def _inference(model: nn.Module, run: Run) -> Callable[[], None]:
    images, _ = _inputs(run)

    @torch.no_grad()
    def predict() -> None:
        model.eval()
        model(images[:1])

    return predict


def _inputs(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    batch, size = RECIPES[run.protocol.recipe].batch, run.protocol.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    return images, (torch.rand(batch, 1, size, size, generator=generator) > 0.8).float()


def _at_random(protocol: Protocol) -> Protocol:
    return replace(protocol, start="random")  # times and sizes do not depend on the weights
