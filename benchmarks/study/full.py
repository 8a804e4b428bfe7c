"""The paper's polyp recipe on PVTv2-B2 at 352 pixels, for GPUs, one or several by torchrun: the same code."""

from collections.abc import Callable

from benchmarks.study import processes, work
from benchmarks.study.settings import Protocol, Run, Setting

# Deep supervision by the two finest heads, whose sum predicts. 100 epochs is what the published code sets; the paper
# says 300.
PROTOCOL = Protocol(size=352, encoder="pvt-b2", epochs=100, recipe="official")
SETTING = Setting(output="sum")


def run_full(
    place: work.Place,
    *,
    protocol: Protocol = PROTOCOL,
    setting: Setting = SETTING,
    seeds: int = 3,
    most_steps: int | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Train, validate and store the runs that are missing; every process of torchrun calls it.

    The batch is that of the recipe over all processes. The last epoch's network is validated: the published scores are
    of the epoch that was best on the test sets.

    Args:
        most_steps: see `train`.

    Returns:
        How many runs were made.
    """
    group, device = processes.of_torchrun()
    made = 0
    for seed in range(seeds):
        run = Run(protocol, "unetv2", setting, seed)
        # The first process may write the result while the others look: all go by what it sees.
        if group.agree(place.store.read(run) is not None):
            continue
        work.train_and_store(run, place, group=group, device=device, most_steps=most_steps, say=say)
        made += 1
    group.end()
    return made
