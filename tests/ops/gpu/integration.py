"""The op inside torch's machinery: compilation, graphs, streams, DDP, AMP. One function per promise.

    python -m tests.ops.gpu.integration cuda cold_graph     in a process in which the op has not run before
    python -m tests.ops.gpu.integration cpu                 a rehearsal of all on a CPU, without graphs and streams

What the op keeps from one call to the next must serve every other way to call it: so each starts in a cold process,
and compares with the reference.
"""

import os
import sys
import tempfile
import warnings
from contextlib import nullcontext
from typing import Any

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # for deterministic algorithms; read when CUDA starts

import torch
from torch import nn

from sdi_plugin import SDI, SDISkip, ops
from sdi_plugin.ops import dispatch, gpu, reference
from tests.ops.attention import make
from tests.ops.cases import make_case, to

LEVELS, CHANNELS, SIZE = 3, 32, (24, 20)
TARGETS = tuple(range(LEVELS))


def new_case(device, batch=2, dtype=torch.float32):
    made = to(make_case(SIZE, LEVELS, channels=CHANNELS, batch=batch, targets=LEVELS), device, dtype)
    return [[t.requires_grad_() for t in group] for group in made]


def forward(xs, weights, biases):
    return ops.resize_smooth_multiply_stage(xs, weights, biases, TARGETS)


def exact(xs, weights, biases, targets=TARGETS):
    return reference.resize_smooth_multiply_stage(xs, weights, biases, targets)


def step(stage, case):
    """The results and the gradients of all inputs."""
    outs = stage(*case)
    upstream = [torch.cos(3 * out.detach()) for out in outs]
    grads = torch.autograd.grad(outs, [t for group in case for t in group], upstream)
    return [t.detach() for t in (*outs, *grads)]


def check(found, case):
    expected = step(exact, [[t.requires_grad_() for t in group] for group in to(case, torch.float64)])
    check_close(found, expected)


def check_close(found, expected):
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, (i, a.shape, b.shape)
        assert (a.double() - b).norm() <= 1e-5 * b.norm(), (i, a, b)


def captured(function, device):
    """The results of a call, and the replay of its CUDA graph, which writes them again."""
    if device.type == "cpu":
        results = function()
        return results, lambda: [old.copy_(new) for old, new in zip(results, function(), strict=True)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


def compiled(device, mode):
    if device.type == "cpu" and mode != "default":
        return  # the modes differ in Inductor, which the rehearsal leaves out
    options: dict[str, Any] = {"backend": "aot_eager"} if device.type == "cpu" else {"mode": mode}
    function = torch.compile(forward, dynamic=False, **options)
    for batch in (2, 3, 2):
        for _ in range(3):  # a graph is warmed up, recorded and replayed
            case = new_case(device, batch)
            torch.compiler.cudagraph_mark_step_begin()
            check([t.clone() for t in step(function, case)], case)


def compile_default(device):
    compiled(device, "default")


def compile_reduce_overhead(device):
    compiled(device, "reduce-overhead")


def compile_max_autotune(device):
    compiled(device, "max-autotune")


def graphs(device):
    runs = []
    for batch in (2, 3, 1):
        case = new_case(device, batch)
        runs.append((case, *captured(lambda case=case: step(forward, case), device)))
    for _ in range(2):
        for case, results, replay in runs:
            for leaf, other in zip(
                *[[t for g in c for t in g] for c in (case, new_case(device, len(case[0][0])))], strict=True
            ):
                leaf.detach().copy_(other.detach())
            replay()
            check(results, case)


def cold_graph(device):
    """The first call of the process is captured."""
    graphs(device)


def graph_after_a_forward_of_another_batch(device):
    """The kernels are loaded, but not for these shapes, and none of backward's."""
    with torch.no_grad():
        forward(*new_case(device, 5))
    graphs(device)


def graphed_callables(device):
    sample = new_case(device)

    def flat(*tensors):
        weights, biases = tensors[LEVELS : -LEVELS * LEVELS], tensors[-LEVELS * LEVELS :]
        return tuple(forward(tensors[:LEVELS], weights, biases))

    leaves = tuple(t for group in sample for t in group)
    graphed = flat if device.type == "cpu" else torch.cuda.make_graphed_callables(flat, leaves)
    for _ in range(3):
        case = new_case(device)
        check(step(lambda *groups: graphed(*[t for group in groups for t in group]), case), case)


def side_streams(device):
    """Two streams at once, the second with other shapes."""
    cases = [new_case(device, batch) for batch in (2, 3)]
    is_cpu = device.type == "cpu"
    streams = [None if is_cpu else torch.cuda.Stream() for _ in cases]
    if not is_cpu:
        torch.cuda.synchronize()  # the cases are ready
    found = []
    for _ in range(4):
        for case, stream in zip(cases, streams, strict=True):
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                found.append((case, step(forward, case)))
    if not is_cpu:
        torch.cuda.synchronize()
    for case, results in found:
        check(results, case)


def several_gpus(device):
    """The tensors' device, not the current one."""
    devices = [device] * 2 if device.type == "cpu" else [torch.device("cuda", i) for i in (1, 0)]
    for _ in range(2):
        for other in devices:
            case = new_case(other)
            check(step(forward, case), case)


def ddp(device):
    """A channels-last model, without a warning of strides that differ."""
    backend = "gloo" if device.type == "cpu" else "nccl"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{tempfile.mkdtemp()}/store", rank=0, world_size=1
    )
    sdi = SDI(CHANNELS, LEVELS).to(device).to(memory_format=torch.channels_last)
    model = nn.parallel.DistributedDataParallel(sdi, device_ids=None if device.type == "cpu" else [0])
    for _ in range(2):
        xs = [x.to(memory_format=torch.channels_last) for x in to(new_case(device), device)[0]]
        model.zero_grad()
        loss = model(xs, 0).square().sum()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss.backward()
        parameters = [[getattr(conv, name) for conv in sdi.convs] for name in ("weight", "bias")]
        case = [[t.requires_grad_() for t in group] for group in to([xs, *parameters], torch.float64)]
        exact(case[0], case[1], case[2], [0])[0].square().sum().backward()
        for group, expected in zip(parameters, case[1:], strict=True):
            check_close([p.grad for p in group], [e.grad for e in expected])
    torch.distributed.destroy_process_group()


def amp(device):
    """20 steps (fewer in the rehearsal) in float16 with a GradScaler: the losses are the reference's."""

    def train(is_reference):
        dispatch.FORCE_REFERENCE = is_reference
        torch.manual_seed(0)
        skip = SDISkip([8, 16, 24], CHANNELS, init="unit").to(device)
        features = [
            torch.randn(2, c, *x.shape[2:], device=device)
            for c, x in zip((8, 16, 24), new_case(device)[0], strict=True)
        ]
        wanted = [torch.randn(2, CHANNELS, *f.shape[2:], device=device) for f in features]
        optimizer, scaler = torch.optim.Adam(skip.parameters(), 1e-3), torch.amp.GradScaler(device.type)
        losses = []
        for _ in range(4 if device.type == "cpu" else 20):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.float16):
                pairs = zip(skip(features), wanted, strict=True)
                loss = torch.stack([(y.float() - w).square().mean() for y, w in pairs]).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses.append(float(loss.detach()))
        return losses, scaler.get_scale()

    (expected, expected_scale), (found, scale) = train(True), train(False)
    assert found[-1] < found[0], found
    assert scale >= expected_scale / 2, (scale, expected_scale)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def inference_then_train(device):
    """What a call in inference mode leaves behind serves one that is differentiated."""
    case = new_case(device)
    with torch.inference_mode():
        results = forward(*case)
    found = step(forward, case)
    assert all(torch.equal(a, b) for a, b in zip(results, found, strict=False))
    check(found, case)


def default_device(device):
    """The GPU is the default device: tensors of CPUs, too, and deterministic algorithms."""
    torch.set_default_device(device)
    for is_deterministic in (False, True):
        torch.use_deterministic_algorithms(is_deterministic)
        for own in (torch.device("cpu"), device):
            case = [[t.requires_grad_() for t in group] for group in to(new_case("cpu"), own)]
            check(step(forward, case), case)


def empty_batch(device):
    for batch in (0, 2):
        case = new_case(device, batch)
        found = step(forward, case)
        assert found[0].shape == (batch, CHANNELS, *SIZE)
        check(found, case)


def attention(device):
    """attend_and_reduce: the first call of the process is captured, then it is compiled."""

    def groups():
        levels = [make(2, width, 8, size, torch.float32) for width, size in ((32, (12, 10)), (48, (6, 5)))]
        made = [[t.to(device, torch.float32).requires_grad_() for t in group] for group in zip(*levels, strict=True)]
        return [[channels_last(t).detach().requires_grad_() for t in made[0]], *made[1:]]

    def channels_last(t):
        return t.to(memory_format=torch.channels_last)

    def check_attention(found, case):
        doubles = [[t.requires_grad_() for t in group] for group in to(case, torch.float64)]
        check_close(found, step(reference.attend_and_reduce_stage, doubles))

    case = groups()
    results, replay = captured(lambda: step(ops.attend_and_reduce_stage, case), device)
    for _ in range(2):
        for leaf, other in zip(*[[t for group in c for t in group] for c in (case, groups())], strict=True):
            leaf.detach().copy_(other.detach())
        replay()
        check_attention(results, case)
    options: dict[str, Any] = {"backend": "aot_eager"} if device.type == "cpu" else {}
    compiled = torch.compile(ops.attend_and_reduce_stage, dynamic=False, fullgraph=True, **options)
    for _ in range(2):
        case = groups()
        check_attention(step(compiled, case), case)


BODIES = (
    compile_default,
    compile_reduce_overhead,
    compile_max_autotune,
    cold_graph,
    graph_after_a_forward_of_another_batch,
    graphed_callables,
    side_streams,
    several_gpus,
    ddp,
    amp,
    inference_then_train,
    default_device,
    empty_batch,
    attention,
)


def main(kind, *names):
    device = torch.device(kind)
    assert device.type == "cpu" or gpu.serves(device), gpu.reason()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for body in BODIES:
        if not names or body.__name__ in names:
            torch.manual_seed(0)
            body(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
