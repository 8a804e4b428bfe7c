"""What torch.compile launches on an H100, without one: the kernels and calls of Inductor's scheduler.

Dynamo and AOTAutograd trace the function on CPU tensors, with the decompositions and passes of Inductor. Then the
graphs of forward and backward move to a GPU that is not there, and Inductor lowers, fuses and schedules them for it.
Only the code of the kernels is not generated. Uses private parts of torch 2.11 to 2.14.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._functorch import config as autograd_config
from torch._guards import detect_fake_mode
from torch._inductor import config, scheduler
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.graph import GraphLowering
from torch.utils._pytree import tree_map, tree_map_only

from benchmarks.gpu_record import Launch, of_operator

GPU = torch.device("cuda:0")
_H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    warp_size=32,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
    L2_cache_size=50 << 20,
)
_DRIVER = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "synchronize": lambda device=None: None,
    "get_device_capability": lambda device=None: (9, 0),
    "_get_device_properties": lambda device: _H100,
    "_lazy_init": lambda: None,
    "_exchange_device": lambda device: 0,
    "_maybe_exchange_device": lambda device: 0,
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: None,
}


class _StopError(Exception):
    """Ends a compilation where everything is counted."""


def launches(function: Callable[..., Any], *arguments: Any) -> list[Launch]:
    """The launches of a function's forward, and of its backward if an argument requires a gradient."""
    found: list[Launch] = []

    def inner(graph: Any, inputs: Sequence[Any], **options: Any) -> Any:
        found.extend(_lowered(graph, inputs, options))
        return lambda *_: None

    def backend(graph: Any, inputs: Sequence[Any]) -> Any:
        compile_fx(graph, inputs, inner_compile=inner)
        raise _StopError

    torch._dynamo.reset()
    both = autograd_config.patch(force_non_lazy_backward_lowering=True, enable_autograd_cache=False)
    # Some decompositions ask for the device.
    traced = mock.patch("torch._inductor.decomposition.is_gpu", return_value=True)
    with both, config.patch(fx_graph_cache=False), traced, _stopped():
        torch.compile(function, backend=backend, dynamic=False)(*arguments)
    return found


@contextmanager
def _stopped() -> Iterator[None]:
    """Expect a _StopError, which torch wraps in exceptions of its own."""
    try:
        yield
    except Exception as error:
        if "_StopError" not in repr(error) + str(error):
            raise


def _lowered(graph: Any, inputs: Sequence[Any], options: dict[str, Any]) -> list[Launch]:
    """A graph's launches, lowered for the GPU."""
    found: list[Launch] = []

    def codegen(lowering: Any) -> None:
        lowering.init_wrapper_code()
        lowering._update_scheduler()
        for node in lowering.scheduler.nodes:
            found.extend(_of_node(node))
        raise _StopError

    def contiguous(t: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        return torch.ops.aten.contiguous(t, memory_format=memory_format)  # without the guard of the device

    fake_mode = detect_fake_mode(inputs)
    assert fake_mode is not None
    with fake_mode:
        inputs = _move(graph, inputs)
    with ExitStack() as stack:
        for name, replaced in _DRIVER.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, replaced, create=True))
        stack.enter_context(mock.patch.object(scheduler, "has_triton", return_value=True))
        # Traces patterns of attention on the GPU; there is none in a stage.
        stack.enter_context(mock.patch("torch._inductor.fx_passes.joint_graph.lazy_init"))
        stack.enter_context(mock.patch.object(Tensor, "contiguous", contiguous))
        stack.enter_context(mock.patch.object(GraphLowering, "codegen", codegen))
        stack.enter_context(_stopped())
        compile_fx_inner(graph, inputs, **options)
    return found


def _move(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """Put all tensors of a traced graph on the GPU, and return its inputs there."""

    def moved(value: Any) -> Any:
        return tree_map_only(
            Tensor, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=GPU), value
        )

    for node in graph.graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = moved(node.meta["val"])
        node.args, node.kwargs = (
            tree_map(lambda a: GPU if isinstance(a, torch.device) else a, a) for a in (node.args, node.kwargs)
        )
    graph.recompile()
    return moved(list(inputs))


def _of_node(node: Any) -> list[Launch]:
    """The launches of a scheduled node: none of what only names one of several results."""
    if isinstance(node, scheduler.NopKernelSchedulerNode):
        return []
    if not isinstance(node, scheduler.ExternKernelSchedulerNode):
        elements = sum(t.node.get_numel() for t in node.get_outputs())
        return [Launch("kernel", node.get_read_write_buffers_sizes(), int(elements))]
    call: Any = node.node
    if type(call).__name__ == "MultiOutput":
        return []
    operator = getattr(call, "op_overload", None) or torch.ops.aten.convolution.default
    origin = next(node for node in call.origins if node.target is operator)
    arguments = tree_map(lambda a: a.meta["val"] if isinstance(a, torch.fx.Node) else a, origin.args)
    if operator is torch.ops.aten.convolution.default:
        arguments = *arguments[:2], None, *arguments[3:]  # a kernel of Inductor's adds the bias
    return of_operator(operator, arguments, origin.meta["val"])
