"""The terms of one call of `sdi_plugin.ops.gpu`: pooled maps, packed weights, taps, and the maps' gradients."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import plan
from sdi_plugin.ops.gpu import COSTS, launch, tables
from sdi_plugin.ops.gpu.launch import Slab, Taps
from sdi_plugin.ops.gpu.tables import Axis
from sdi_plugin.ops.plan import Term

_SMALLEST_SLAB = 1 << 24  # bytes: a slab's temporaries are no larger than a map of the target, or than this


class Call:
    """What forward and backward both prepare.

    `plan`: the maps, and the terms of every target. `biases`: per target (terms, C_out), the dense terms first. Maps
    are (B, *S, C), contiguous, in `dtype`: the lowest precision of xs and weights, as under autocast. Sums are in
    `accumulator`: float32, or float64.
    """

    def __init__(
        self, xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int]
    ):
        self.xs = xs
        self.dtype = _lowest([t.dtype for t in (*xs, *weights)])
        self.accumulator = torch.promote_types(self.dtype, torch.float32)
        sizes = tuple(tuple(x.shape[2:]) for x in xs)
        self.plan = plan.make(sizes, tuple(targets), xs[0].shape[1], COSTS)
        self.maps = {level: channels_last(x, self.dtype) for level, x in enumerate(xs)}  # by index in the plan
        for pooled in self.plan.rounds:
            made = [self.plan.maps[index] for index in pooled]
            results = self._resample([(self.maps[source], size) for size, source in made if source is not None])
            self.maps.update(zip(pooled, results, strict=True))
        self._pack(weights)
        self._stack_biases(biases)
        self._grads: dict[int, Tensor] = {}  # by index in the plan

    def _resample(self, sources: Sequence[tuple[Tensor, tuple[int, ...]]]) -> list[Tensor]:
        """Each map at its new size."""
        jobs = []
        for x, size in sources:
            out = x.new_empty(x.shape[0], *size, x.shape[-1])
            axes = _axes(x.shape[1:-1], size)
            jobs.append((x, out, tables.resampling(x.shape[0], axes, self.accumulator, x.device)))
        launch.resample(jobs, self.xs[0].shape[1])
        return [out for _, out, _ in jobs]

    def _pack(self, weights: Sequence[Tensor]) -> None:
        """Pack all kernels of the convolutions, and all mixings of the taps, each in two launches."""
        self.kernels, self.mixings = {}, {}
        for by_taps in (False, True):
            entries = [term.entry for terms in self.plan.targets for term in terms if term.by_taps == by_taps]
            if not entries:
                continue
            stacked = torch.stack([weights[entry] for entry in entries])  # (terms, C_out, C, *taps)
            dim = stacked.ndim - 3
            # Channels last. A mixing is a 1x1 convolution to the taps of a plane; in 3-D, from the depth taps.
            order = ((0, 1, 3, 4, 2), (0, 1, 3, 4, 5, 2), (0, 3, 4, 1, 2), (0, 4, 5, 1, 3, 2))[2 * by_taps + dim - 2]
            packed = _copy(stacked.permute(order), self.dtype)
            for entry, weight in zip(entries, packed, strict=True):
                if by_taps:
                    out = 9 * weight.shape[2]
                    self.mixings[entry] = weight.view(out, -1, 1, 1)
                else:
                    self.kernels[entry] = weight.movedim(-1, 1)

    def _stack_biases(self, biases: Sequence[Tensor]) -> None:
        ordered = [sorted(terms, key=lambda term: term.by_taps) for terms in self.plan.targets]
        stacked = torch.stack([biases[term.entry] for terms in ordered for term in terms]).to(self.accumulator)
        self.biases = stacked.view(len(ordered), -1, stacked.shape[-1]).unbind()

    def convolve(self, term: Term, size: tuple[int, ...]) -> Tensor:
        """A dense term, without its bias: the kernel adds it."""
        x = channels_first(self._dense_input(term, size))
        return channels_last((torch.conv2d if x.ndim == 4 else torch.conv3d)(x, self.kernels[term.entry], padding=1))

    def _dense_input(self, term: Term, size: tuple[int, ...]) -> Tensor:
        x = self.maps[term.pooled]
        return x if x.shape[1:-1] == size else self._resample([(x, size)])[0]

    def add_convolution_grad(self, term: Term, grad: Tensor, size: tuple[int, ...]) -> Tensor:
        """Add to the gradient of the term's map; return that of its weight."""
        x = self._dense_input(term, size)
        x_grad, weight_grad = _convolution_backward(grad, x, self.kernels[term.entry], padding=1)
        source = self.plan.maps[term.pooled].size
        if size == source:
            self._add(term.pooled, x_grad)
        else:
            self._add_adjoint([(x_grad, term.pooled, _axes(source, size, adjoint=True))])
        return weight_grad

    def slabs(self, terms: Sequence[Term], size: tuple[int, ...]) -> Iterator[Slab]:
        """In 2-D everything; in 3-D as many planes as keep all taps together no larger than a map of the target."""
        if len(size) == 2:
            yield Slab(0, 1, 1)
            return
        x, channels = self.maps[terms[0].pooled] if terms else None, 0
        planes = size[0]
        if x is not None:
            channels = self.mixings[terms[0].entry].shape[0] // 9
            item = x.shape[0] * x.element_size()
            pixels = sum(math.prod(self.plan.maps[term.pooled].size[1:]) for term in terms)
            plane = item * pixels * (9 * channels + 3 * x.shape[-1])
            budget = max(_SMALLEST_SLAB, item * math.prod(size) * channels)
            planes = min(planes, max(1, budget // plane))
        count = -(-size[0] // planes)
        for i in range(count):
            yield Slab(size[0] * i // count, size[0] * (i + 1) // count, size[0])

    def taps(self, terms: Sequence[Term], size: tuple[int, ...], slab: Slab) -> list[tuple[Tensor, Taps]]:
        """For each term, the map whose channels are mixed, and the mixed taps, on the slab's planes.

        The mixing is a 1x1 convolution, not a matrix product, so that torch's settings for convolutions, such as TF32,
        apply to it.
        """
        inputs = [self.maps[term.pooled] for term in terms]
        if len(size) == 3:
            jobs = []
            for x in inputs:
                axes = _depth_axes(x.shape[1:-1], size, slab)
                out = x.new_empty(x.shape[0] * (slab.end - slab.begin), *x.shape[2:-1], 3 * x.shape[-1])
                jobs.append((x, out, tables.resampling(x.shape[0], axes, self.accumulator, x.device)))
            launch.resample(jobs, self.xs[0].shape[1], taps=3)
            inputs = [out for _, out, _ in jobs]
        results = []
        for term, x in zip(terms, inputs, strict=True):
            products = channels_last(torch.conv2d(channels_first(x), self.mixings[term.entry]))
            results.append((x, Taps(products.view(*x.shape[:-1], 3, 3, -1), (size[-2], size[-1]))))
        return results

    def add_taps_grads(
        self,
        terms: Sequence[Term],
        inputs: Sequence[Tensor],
        product_grads: Sequence[Tensor],
        size: tuple[int, ...],
        slab: Slab,
    ) -> list[Tensor]:
        """Add to the gradients of the terms' maps; return those of the mixings."""
        jobs, mixing_grads = [], []
        for term, x, grad in zip(terms, inputs, product_grads, strict=True):
            x_grad, mixing_grad = _convolution_backward(grad, x, self.mixings[term.entry], padding=0)
            mixing_grads.append(mixing_grad)
            if len(size) == 2:
                self._add(term.pooled, x_grad)
            else:
                source = self.plan.maps[term.pooled].size
                jobs.append((x_grad, term.pooled, _depth_axes(source, size, slab, adjoint=True)))
        self._add_adjoint(jobs, taps=3)
        return mixing_grads

    def _add(self, index: int, grad: Tensor) -> None:
        if index in self._grads:
            self._grads[index] += grad
        else:
            self._grads[index] = grad.to(self.accumulator)

    def _add_adjoint(self, jobs: Sequence[tuple[Tensor, int, tuple[Axis, Axis, Axis]]], taps: int = 1) -> None:
        """Add each gradient to its map's, through the adjoint of a resampling."""
        pending = list(jobs)
        while pending:
            # The gradients of one map are added one after the other: each batch has the next one of every map.
            batch = {index: i for i, (_, index, _) in reversed(list(enumerate(pending)))}
            now = [pending[i] for i in batch.values()]
            pending = [job for i, job in enumerate(pending) if i not in batch.values()]
            launches = []
            for grad, index, axes in now:
                x = self.maps[index]
                if index not in self._grads:
                    self._grads[index] = torch.zeros_like(x, dtype=self.accumulator)
                table = tables.resampling(x.shape[0], axes, self.accumulator, x.device)
                launches.append((grad, self._grads[index], table))
            launch.resample(launches, self.xs[0].shape[1], taps=taps, sum_taps=True, accumulate=True)

    def x_grads(self) -> list[Tensor]:
        """The gradients of xs, with those of the pooled maps added. Channels last in memory, in the dtypes of xs."""
        for pooled in reversed(self.plan.rounds):
            jobs = []
            for index in pooled:
                size, source = self.plan.maps[index]
                assert source is not None  # only levels have no source
                axes = _axes(self.plan.maps[source].size, size, adjoint=True)
                jobs.append((self._grads[index], source, axes))
            self._add_adjoint(jobs)
        return [channels_first(self._grads[level].to(x.dtype)) for level, x in enumerate(self.xs)]


def channels_last(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(B, C, *S) -> (B, *S, C), contiguous."""
    return _copy(x.movedim(1, -1), dtype or x.dtype)


def channels_first(x: Tensor) -> Tensor:
    """(B, *S, C) -> (B, C, *S), a view of the same memory."""
    return x.movedim(-1, 1)


def unmix(mixing: Tensor, weight: Tensor) -> Tensor:
    """A mixing's entries, in the order of the weight from which it was packed."""
    out, inner, *taps = weight.shape
    if len(taps) == 2:
        return mixing.view(*taps, out, inner).permute(2, 3, 0, 1)
    return mixing.view(*taps[1:], out, taps[0], inner).permute(2, 4, 3, 0, 1)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """For maps (B, *S, C): the gradient of x, in the same layout, and that of the weight."""
    dim = x.ndim - 2
    ones, zeros = [1] * dim, [0] * dim
    inputs = channels_first(grad), channels_first(x), weight, None, ones, [padding] * dim, ones
    mask = [True, True, False]  # not of the bias: the kernel sums its gradient
    x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(*inputs, False, zeros, 1, mask)
    return channels_last(x_grad), weight_grad


def _copy(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x contiguous, in dtype, and with its sign in memory: one launch if anything changes, otherwise none."""
    if x.is_contiguous() and x.dtype == dtype and not x.is_neg():
        return x
    return x.new_empty(x.shape, dtype=dtype).copy_(x)


def _lowest(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    size = min(dtype.itemsize for dtype in dtypes)
    lowest = {dtype for dtype in dtypes if dtype.itemsize == size}
    return lowest.pop() if len(lowest) == 1 else torch.float32  # bfloat16 and float16 have no common lower one


def _axes(source: Sequence[int], target: Sequence[int], adjoint: bool = False) -> tuple[Axis, Axis, Axis]:
    axes = [Axis(s, t, adjoint=adjoint) for s, t in zip(source, target, strict=True)]
    padded = [Axis(1, 1)] * (3 - len(axes)) + axes
    return padded[0], padded[1], padded[2]


def _depth_axes(
    source: Sequence[int], target: Sequence[int], slab: Slab, adjoint: bool = False
) -> tuple[Axis, Axis, Axis]:
    pixels = math.prod(source[1:])
    return (
        Axis(source[0], target[0], taps=True, rows=(slab.begin, slab.end), adjoint=adjoint),
        Axis(1, 1),
        Axis(pixels, pixels),
    )
