"""Randomness that a resumed run repeats exactly."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmseg.registry import HOOKS


@HOOKS.register_module()
class ReseedHook(Hook):
    """Draw the randomness of iteration k from (seed, rank, k), so that --resume repeats an uninterrupted run.

    mmengine restores weights, optimiser, schedules and the order of the images, but not the state of the random
    numbers behind stochastic depth, dropout, scales and, without workers, augmentation. With this hook they depend on
    the iteration alone, neither on where a run was interrupted nor on validation in between.

    Set `randomness=dict(seed=...)`, and train by iterations (IterBasedTrainLoop, InfiniteSampler). When training by
    epochs, the workers' augmentation starts again on resuming.

    Convention:
        Seeds Python's, numpy's and torch's generators, on all devices.

    Examples:
        >>> from sdi_plugin.adapters.mmsegmentation import ReseedHook
        >>> hook = ReseedHook()  # in a config: custom_hooks=[dict(type="ReseedHook")], randomness=dict(seed=0)
        >>> hook.priority
        'VERY_HIGH'
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        loop = runner.train_loop
        iterator = getattr(loop, "dataloader_iterator", None)
        if iterator is not None and not isinstance(iterator, _ReseededIterator):
            loop.dataloader_iterator = _ReseededIterator(iterator, runner.seed)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        _seed(runner.seed, 0, runner.iter)


class _ReseededIterator:
    """Batches, the n-th of which is loaded (without workers: augmented) with the random numbers of n."""

    def __init__(self, batches: Any, seed: int):
        self.batches, self.seed, self.count = batches, seed, 0

    def __iter__(self) -> "_ReseededIterator":
        return self

    def __next__(self) -> Any:
        _seed(self.seed, 1, self.count)
        self.count += 1
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """Load and drop batches: the fork would skip their loading, and with it the random numbers of its workers."""
        for _ in range(num_iters):
            next(self)


def _seed(seed: int, purpose: int, iteration: int) -> None:
    state = np.random.SeedSequence([seed, get_rank(), purpose, iteration]).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    torch.manual_seed(int(state[2]))
