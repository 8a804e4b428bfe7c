"""The Triton kernels against the reference: on a GPU where there is one, otherwise in Triton's interpreter.

Without a GPU these run under TRITON_INTERPRET=1, which test_interpreter.py sets for them. Sizes are small, as
the interpreter is slow; float16 and float32, as its bfloat16 is wrong.
"""

from types import MappingProxyType

import pytest
import torch

from sdi_plugin import ops
from sdi_plugin.ops import gpu, library, reference
from sdi_plugin.ops.gpu import call, entries, schedule
from sdi_plugin.ops.gpu.program import Workspace
from tests.ops.cases import eager, fused, make_case, run, single, to
from tests.ops.contract import KernelContract
from tests.ops.gpu import interpreter

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = [
    pytest.mark.skipif(not gpu.serves(DEVICE), reason="no GPU, and TRITON_INTERPRET is not 1"),
    pytest.mark.usefixtures("exact_float32"),
]

if gpu.INTERPRETED:
    interpreter.configure()


class TestGpu(KernelContract):
    device = DEVICE
    asinh_shapes = ("paper", "odd", "3d")
    dtypes = (torch.float32, torch.float16)
    asinh_dtypes = (torch.float32,)
    slack = asinh_slack = 2.0  # maps of a few elements
    opcheck_sizes = ((4, 3), (2, 3, 2))
    opcheck_utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    infinite_shapes = MappingProxyType({"2d": ((7, 6), 2, 4)})


def stage_case(size, levels, channels, batch=2, targets=1):
    return to(make_case(size, levels, torch.float16, channels, batch, targets), DEVICE)


def upstream(outputs):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(o.shape, generator=generator).to(o.device, o.dtype) for o in outputs]


def ours(case, targets, dtype, fusion="product"):
    """Lists of outputs and of the gradients of xs, weights and biases."""
    xs, weights, biases = [[t.to(dtype) for t in group] for group in case]
    outputs = gpu.forward(xs, weights, biases, targets, dtype, fusion)
    return [outputs, *gpu.backward(upstream(outputs), xs, weights, biases, targets, fusion)]


def test_float64_is_exact():
    case = to(make_case((7, 6), 2, channels=4), DEVICE)
    for level in range(2):
        for a, b in zip(run(fused, case, level, torch.float64), run(eager, case, level, torch.float64), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(9, 6), (4, 5, 3)], ids=["2d", "3d"])
def test_same_bits_on_every_run(size):
    case = stage_case(size, 2, 20, batch=1, targets=2)
    first, second = (ours(case, range(2), torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_results_are_channels_last():
    xs, weights, biases = single(stage_case((9, 8), 2, 6))
    (output,) = gpu.forward(xs, weights, biases, [0], torch.float32)
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_several_chunks_are_one(monkeypatch):
    case = stage_case((5, 4, 3), 2, 4, batch=1, targets=2)
    whole = ours(case, [0, 1], torch.float64)
    monkeypatch.setattr(entries, "LEAST_CHUNK", 1)
    monkeypatch.setattr(entries, "MULTIPLE", 0)
    made = schedule.make
    seen = []
    monkeypatch.setattr(schedule, "make", lambda request: seen.append(made.__wrapped__(request)) or seen[-1])
    monkeypatch.setattr(call, "plan", call.Plan)  # not the one that is kept
    allocate = Workspace.allocate  # what is read beyond a slab overflows, of which the interpreter warns
    monkeypatch.setattr(Workspace, "allocate", lambda *args: allocate(*args).fill_(0x7E))  # float64: 5e300
    for a, b in zip(ours(case, [0, 1], torch.float64), whole, strict=True):
        torch.testing.assert_close(list(a), list(b), rtol=1e-12, atol=1e-12)
    assert max(len(chunk.entries) for chunk in seen[0].chunks) == 1
    assert len(seen[0].chunks) > 5  # slabs of a plane


@pytest.mark.parametrize("shape", [((12, 12), 3), ((8, 4, 4), 2), ((9, 7), 2)], ids=["nested", "3d", "odd"])
def test_wide_windows_where_the_levels_are_far_apart(shape):
    size, levels = shape
    sizes = [size, *[tuple(max(1, s // 4**j) for s in size) for j in range(1, levels)]]
    xs = [torch.randn(1, 16, *s, dtype=torch.float64, device=DEVICE) for s in sizes]
    weights = [torch.randn(16, 16, *[3] * len(size), dtype=torch.float64, device=DEVICE) for _ in range(levels**2)]
    biases = [torch.randn(16, dtype=torch.float64, device=DEVICE) for _ in range(levels**2)]
    found = ours((xs, weights, biases), range(levels), torch.float64)
    leaves = [[t.requires_grad_() for t in group] for group in (xs, weights, biases)]
    outputs = reference.resize_smooth_multiply_stage(leaves[0], leaves[1], leaves[2], range(levels))
    expected = torch.autograd.grad(outputs, [t for group in leaves for t in group], upstream(outputs))
    torch.testing.assert_close(found[0], list(outputs), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close([t for group in found[1:] for t in group], list(expected), rtol=1e-10, atol=1e-10)


def test_half_precision_maps_with_float32_weights_are_as_under_autocast():
    xs, weights, biases = stage_case((8, 8), 2, 16)
    halves, weights, biases = [x.half() for x in xs], [w.float() for w in weights], [b.float() for b in biases]
    (output,) = gpu.forward(halves, weights, biases, [0], torch.float32)
    assert output.dtype == torch.float32
    grads = gpu.backward([torch.ones_like(output)], halves, weights, biases, [0])
    for gradients, inputs in zip(grads, (halves, weights, biases), strict=True):
        assert [g.dtype for g in gradients] == [t.dtype for t in inputs]
    # The weights are numbers of float16, so nothing but the last rounding differs.
    half_weights, half_biases = [w.half() for w in weights], [b.half() for b in biases]
    (half,) = gpu.forward(halves, half_weights, half_biases, [0], torch.float16)
    assert torch.equal(output.half(), half)


def test_sizes_compile_nothing_anew():
    # Triton compiles again for an integer of a tuple that is one, or a multiple of 16.
    numbers = entries.encoded(range(-1, 100))
    assert all(n != 1 and n % 16 for n in numbers)
    assert [n >> 4 for n in numbers] == list(range(-1, 100))


def test_tensors_of_several_dtypes():
    case = [[a.float(), *(t.double() for t in rest)] for a, *rest in stage_case((6, 5), 2, 4, batch=1, targets=2)]
    case[1] = [weight.to(memory_format=torch.channels_last) for weight in case[1]]
    results = []
    for xs, weights, biases in (case, to(case, torch.float64)):
        outputs = gpu.forward(xs, weights, biases, [0, 1], torch.float64)
        results.append([outputs, *gpu.backward(upstream(outputs), xs, weights, biases, [0, 1])])
    found, exact = results
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close([t.double() for t in a], list(b), rtol=1e-5, atol=1e-5)
    assert [[t.dtype for t in group] for group in found[1:]] == [[t.dtype for t in group] for group in case]


def test_the_functional_api_and_the_op_call_these_kernels():
    case = stage_case((6, 5), 2, 4)
    xs, weights, biases = [[t.float().requires_grad_() for t in group] for group in case]
    leaves = [*xs, *weights, *biases]
    (expected,) = gpu.forward(xs, weights, biases, [0], torch.float32)
    gradients = [t for group in gpu.backward(upstream([expected]), xs, weights, biases, [0]) for t in group]
    by_api = ops.resize_smooth_multiply_stage(xs, weights, biases, [0])
    for (output,) in (by_api, library.fused(xs, weights, biases, [0], torch.float32)):
        assert torch.equal(output, expected)
        found = torch.autograd.grad(output, leaves, upstream([output]))
        assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))
