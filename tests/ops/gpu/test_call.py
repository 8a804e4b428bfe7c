"""Plans: which calls share one, and what their launches are given. Launches are recorded; no GPU, and no Triton."""

from contextlib import contextmanager

import pytest
import torch

from sdi_plugin import ops
from sdi_plugin.ops import library
from sdi_plugin.ops.gpu import tuning

SIZES, CHANNELS, TARGETS = ((6, 5), (3, 3)), 8, (0, 1)


def make_case(sizes=SIZES, dtype=torch.float32, channels=CHANNELS):
    terms = range(len(sizes) * len(TARGETS))
    return [
        [torch.randn(2, channels, *size, dtype=dtype).to(memory_format=torch.channels_last) for size in sizes],
        [torch.randn(channels, channels, 3, 3, dtype=dtype) for _ in terms],
        [torch.randn(channels, dtype=dtype) for _ in terms],
    ]


def forward(case, targets=TARGETS, **options):
    return ops.resize_smooth_multiply_stage(*case, targets=targets, **options)


def step(case):
    """The gradients of what needs one."""
    outs = forward(case)
    leaves = [t for group in case for t in group if t.requires_grad]
    return torch.autograd.grad(outs, leaves, [torch.ones_like(o) for o in outs])


def requiring(case, groups=(0, 1, 2)):
    return [[t.detach().requires_grad_(i in groups) for t in group] for i, group in enumerate(case)]


@contextmanager
def tf32(allowed):
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    yield
    torch.backends.cudnn.allow_tf32 = before


def contiguous(case):
    return [[case[0][0].contiguous(), *case[0][1:]], *case[1:]]


def one(index, change):
    """The case with one tensor of a group changed."""

    def changed(case):
        case = [list(group) for group in case]
        case[index][-1] = change(case[index][-1])
        return case

    return changed


def negative(x):
    return torch.imag(torch.complex(torch.zeros_like(x), -x).conj())


def padded(x):
    """x, not dense in memory."""
    return torch.stack([x, x], -1)[..., 0]


CHANGES = {
    "size": lambda case: make_case(((6, 6), (3, 3))),
    "channels": lambda case: make_case(channels=4),
    "dtype": lambda case: make_case(dtype=torch.float64),
    "batch": lambda case: [[x[:1] for x in case[0]], *case[1:]],
    "layout of a map": contiguous,
    "strides of a map": one(0, padded),
    "sign of a map": one(0, negative),
    "layout of a weight": one(1, lambda w: w.to(memory_format=torch.channels_last)),
    "dtype of a weight": one(1, torch.Tensor.double),
    "sign of a weight": one(1, negative),
    "strides of a bias": one(2, padded),
    "dtype of a bias": one(2, torch.Tensor.half),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_another_call_has_another_plan(change, launched):
    case = make_case()
    forward(case)
    forward(make_case())
    assert len(library._known) == 1
    assert [is_new for _, is_new, _ in launched] == [True] * 3 + [False] * 3
    forward(change(case))
    forward(change(case))
    assert len(library._known) == 2
    assert [is_new for _, is_new, _ in launched[6:]] == [True] * 3 + [False] * 3


def test_settings_have_plans_of_their_own(launched):
    case = make_case()
    with tf32(False):
        forward(case)
    with tf32(True):
        forward(case)
    forward(case, out_dtype=torch.float64)
    forward(case, fusion="asinh")
    forward(case, (1, 0))
    assert len(library._known) == 5


@pytest.mark.parametrize("broken", ["shape", "count", "target", "fusion"])
def test_a_known_call_does_not_hide_an_error(broken, launched):
    case, targets, fusion = make_case(), TARGETS, "product"
    forward(case)
    if broken == "shape":
        case[1][0] = case[1][0][:, :4]
    elif broken == "count":
        case[2].pop()
    elif broken == "target":
        targets = (0, 2)
    else:
        fusion = "sum"
    with pytest.raises((ValueError, RuntimeError)):
        forward(case, targets, fusion=fusion)
    assert len(library._known) == 1


def test_tensors_on_two_devices_are_not_planned(launched):
    case = make_case()
    forward(case)
    launched.clear()
    case[1][0] = case[1][0].to("meta")
    forward(case)  # by the reference, as without a plan
    assert len(library._known) == 1
    assert not launched


def test_what_torch_intercepts_is_not_planned(launched):
    class Other(torch.Tensor):
        pass

    case = make_case()
    forward(case)
    xs, weights, biases = case
    assert library._key(xs, weights, biases, TARGETS, "product", None) in library._known
    xs[0] = xs[0].as_subclass(Other)
    assert library._key(xs, weights, biases, TARGETS, "product", None) is None


def test_later_calls_pass_their_own_addresses(launched):
    xs, weights, biases = make_case()
    with tf32(False):  # with it, no level is read where it is
        forward(make_case())
        launched.clear()
        outs = forward([xs, weights, biases])
    (_, _, packed), (_, _, resized), (_, _, multiplied) = launched
    assert packed[:2] == [[t.data_ptr() for t in group] for group in (weights, biases)]
    assert resized[0] == [x.data_ptr() for x in xs]
    kernels, packed_biases = packed[2:]
    assert multiplied[1:] == [resized[0], kernels, packed_biases, [out.data_ptr() for out in outs]]


def test_other_alignment_is_prepared_anew(launched):
    """Triton compiles a kernel for the pointers that are aligned: which ones, not how many."""

    def shifted(t):
        return torch.empty(t.numel() + 1)[1:].as_strided(t.shape, t.stride()).copy_(t)

    def is_new():
        launched.clear()
        forward(case)
        return [new for _, new, _ in launched]

    case = make_case()
    assert is_new() == [True] * 3
    case[0][0] = shifted(case[0][0])
    assert is_new() == [False, True, True]
    assert is_new() == [False] * 3
    case = make_case()
    case[0][1] = shifted(case[0][1])
    assert is_new() == [False, True, True]


def test_backward_packs_no_weights_again(launched):
    case = requiring(make_case())
    grads = step(case)
    assert [g.stride() for g in grads] == [t.stride() for group in case for t in group]
    names = [name for name, _, _ in launched]
    assert names == [
        *("pack", "resize", "multiply"),
        *("resize", "multiply_backward", "gradients", "resize_adjoint", "reduce"),
    ]
    assert launched[4][2][2:4] == launched[0][2][2:]
    launched.clear()
    step(requiring(make_case()))
    assert not any(is_new for _, is_new, _ in launched)


@pytest.mark.parametrize(
    ("groups", "left_out"), [((0,), "reduce"), ((1, 2), "resize_adjoint"), ((2,), "resize_adjoint")]
)
def test_backward_launches_nothing_for_what_is_frozen(groups, left_out, launched):
    for _ in range(2):
        step(requiring(make_case()))
        launched.clear()
        step(requiring(make_case(), groups))
        assert left_out not in [name for name, _, _ in launched]


def test_without_gradients_nothing_is_kept(launched):
    assert all(out.grad_fn is None for out in forward(make_case()))
    with torch.no_grad():
        assert all(out.grad_fn is None for out in forward(requiring(make_case())))


def test_a_partly_used_stage_has_a_plan_of_its_targets(launched):
    case = requiring(make_case())
    outs = forward(case)
    launched.clear()
    torch.autograd.grad(outs[1].sum(), case[0])
    assert launched[0][0] == "pack"
    assert launched[0][2][0] == [w.data_ptr() for w in case[1][2:]]


def test_saved_maps_that_a_hook_moved_are_taken_as_they_come(launched):
    case = requiring(make_case())
    with torch.autograd.graph.saved_tensors_hooks(
        torch.clone, lambda t: t.clone(memory_format=torch.contiguous_format)
    ):
        outs = forward(case)
    launched.clear()
    torch.autograd.grad(outs, case[0], [torch.ones_like(out) for out in outs])
    assert launched[0][0] == "pack"  # all is prepared for the layout that came
    assert all(is_new for _, is_new, _ in launched)


def test_a_weight_that_changed_before_backward_is_an_error(launched):
    case = requiring(make_case())
    outs = forward(case)
    with torch.no_grad():
        case[1][0].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(outs, case[0], [torch.ones_like(out) for out in outs])


def test_gradients_in_other_layouts_are_those_of_their_tensors(launched):
    case = make_case()
    case[1] = [w.to(memory_format=torch.channels_last) for w in case[1]]
    case[1][0] = case[1][0].double()
    case[2] = [b.half() for b in case[2][:-1]] + case[2][-1:]
    case = requiring(case)
    for gradient, t in zip(step(case), [t for group in case for t in group], strict=True):
        assert (gradient.dtype, gradient.shape, gradient.stride()) == (t.dtype, t.shape, t.stride())


def test_a_tuned_call_takes_the_fastest_tiles(launched, monkeypatch):
    """With deterministic algorithms, those of the schedule, which are of another plan."""

    def choose(key, tiles, seconds):
        assert seconds(tiles[1]) == 1
        return tiles[1]

    def stages():
        programs = [plan._forward.program, plan._backward[True, True].program]
        return [step.launch.arguments["STAGES"] for program in programs for step in program.steps[1:2]]

    monkeypatch.setattr(torch.cuda, "get_device_name", str)
    monkeypatch.setattr(tuning, "AUTOTUNE", True)
    monkeypatch.setattr(tuning, "choose", choose)
    monkeypatch.setattr(tuning, "seconds", lambda run: len([run()]))
    step(requiring(make_case()))
    ((plan, _),) = library._known.values()
    assert stages() == [2, 2]
    torch.use_deterministic_algorithms(True)
    try:
        step(requiring(make_case()))
    finally:
        torch.use_deterministic_algorithms(False)
    *_, (plan, _) = library._known.values()
    assert len(library._known) == 2
    assert stages() == [3, 3]


def test_the_known_calls_are_few(launched, monkeypatch):
    monkeypatch.setattr(library, "_MOST_KNOWN", 2)
    for width in range(3, 8):
        forward(make_case(((6, width), (3, 3))))
    assert len(library._known) <= 2
