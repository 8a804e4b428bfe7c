"""U-Net v2 on nnU-Net's plans against nnU-Net's own networks: parameters, GMAC, saved bytes, time of a training step.

    python -m benchmarks.nnunet          # the first table of docs/nnunet.md
    python -m benchmarks.nnunet --peak   # the peak memory of a training step on smaller patches; takes minutes
    python -m benchmarks.nnunet --time 3 # the time of a step; takes minutes

GMAC and saved bytes are counted on fake tensors, so that large patches need no memory. GMAC are the multiply-adds of a
forward by torch's FLOP counter (half its FLOPs; interpolation is not counted). Saved bytes are what autograd keeps of
the forward for backward, each storage counted once, in float32 with batch 1. The networks are those that nnU-Net's
planners make for such patches.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import sdi_plugin.ops.flops  # noqa: F401  the formulas of our ops
from benchmarks.environment import run_module
from benchmarks.memory import peak_extra_bytes, saved_bytes
from sdi_plugin.adapters.nnunet import PlainConvUNetV2, ResidualEncoderUNetV2
from sdi_plugin.adapters.nnunet.network import PlanUNetV2
from sdi_plugin.adapters.nnunet.plans import BOUNDED

NETWORKS: dict[str, Any] = {
    "PlainConvUNet": PlainConvUNet,
    "U-Net v2, plain encoder": PlainConvUNetV2,
    "ResEncUNet-M": ResidualEncoderUNet,
    "U-Net v2, ResEnc-M encoder": ResidualEncoderUNetV2,
}
SETTINGS = {"2-D 512^2": (2, 8, 512, 512), "3-D 128^3": (3, 6, 128, 320)}
MEDIUM = {"2-D 256^2": (2, 7, 256, 512), "3-D 64^3": (3, 5, 64, 320)}
SMALL = {"2-D 128^2": (2, 6, 128, 512), "3-D 32^3": (3, 4, 32, 320)}


def build(name: str, dim: int, stages: int, widest: int) -> nn.Module:
    residual = "ResEnc" in name
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return NETWORKS[name](
        input_channels=1,
        num_classes=3,
        n_stages=stages,
        features_per_stage=[min(widest, 32 * 2**stage) for stage in range(stages)],
        conv_op={2: nn.Conv2d, 3: nn.Conv3d}[dim],
        kernel_sizes=[[3] * dim] * stages,
        strides=[[1] * dim, *([[2] * dim] * (stages - 1))],
        **{blocks: (1, 3, 4, 6, 6, 6, 6, 6)[:stages] if residual else [2] * stages},
        n_conv_per_stage_decoder=[1 if residual else 2] * (stages - 1),
        conv_bias=True,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dim],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **(BOUNDED if issubclass(NETWORKS[name], PlanUNetV2) else {}),
    )


def count(name: str, dim: int, stages: int, size: int, widest: int) -> tuple[float, float, float]:
    """Millions of parameters, GMAC of a forward, GB saved for backward, for one image of size^dim."""
    with FakeTensorMode():
        network, x = build(name, dim, stages, widest), torch.empty(1, 1, *[size] * dim)
        owned = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        saved: dict[int, Any] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            outputs = network(x)
        kept = sum(storage.nbytes() for key, storage in saved.items() if key not in owned)
        del outputs
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, counter.get_total_flops() / 2e9, kept / 1e9


def peak(name: str, patch: str, *, checkpointing: bool, kernel: bool) -> dict[str, int]:
    """Bytes of a training step, batch 1, in a separate process: `peak`, `saved` for backward, and the `estimate`.

    The estimate is that of nnU-Net's planners: twice the elements of the convolutions' outputs, in float32.
    """
    options = ["--peak-of", name, patch, *(["--checkpointing"] if checkpointing else [])]
    return run_module("benchmarks.nnunet", *options, SDI_PLUGIN_REFERENCE="" if kernel else "1", OMP_NUM_THREADS="1")


def _print_peak(name: str, patch: str, checkpointing: bool) -> None:
    dim, stages, size, widest = MEDIUM[patch]
    network, x = build(name, dim, stages, widest), torch.randn(1, 1, *[size] * dim)
    if checkpointing:
        network.decoder.set_grad_checkpointing(True)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    found = {
        "peak": peak_extra_bytes(lambda: _step(network, x)),
        "saved": saved_bytes(lambda: network(x), network.parameters())[1],
        "estimate": 8 * int(network.compute_conv_feature_map_size(x.shape[2:])),  # pyright: ignore[reportCallIssue]
    }
    print(json.dumps(found))


def _peaks(patch: str) -> None:
    for name in NETWORKS:
        for checkpointing, kernel in ((False, True), (True, True), (True, False)) if "v2" in name else ((False, True),):
            found = peak(name, patch, checkpointing=checkpointing, kernel=kernel)
            numbers = " | ".join(f"{found[key] / 1e6:.0f}" for key in ("peak", "saved", "estimate"))
            how = f"{', checkpointing' if checkpointing else ''}{'' if kernel else ', no kernel'}"
            print(f"| {patch} | {name}{how} | {numbers} |", flush=True)


def step_times(name: str, dim: int, stages: int, size: int, widest: int, steps: int) -> list[float]:
    """CPU seconds of forward and backward on one thread, batch 2, after one step that is not counted.

    CPU time, not wall-clock time, so that other programs on the machine do not count.
    """
    torch.set_num_threads(1)
    network, x = build(name, dim, stages, widest), torch.randn(2, 1, *[size] * dim)
    return [_timed(lambda: _step(network, x)) for _ in range(steps + 1)][1:]


def _step(network: nn.Module, x: torch.Tensor) -> None:
    """Forward and backward. The parameters' gradients are kept, so that only the memory of feature maps changes."""
    torch.stack([y.square().mean() for y in network(x)]).sum().backward()


def _timed(function: Callable[[], None]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=0, metavar="STEPS", help="also time steps on smaller patches")
    parser.add_argument("--peak", action="store_true", help="measure the peak memory of a step on medium patches")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)  # one network and patch; --peak runs it
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        name, patch = arguments.peak_of
        return _print_peak(name, patch, arguments.checkpointing)
    if arguments.peak:
        print(
            "| patch | network | peak of a step (MB) | saved for backward (MB) | estimate (MB) |\n|---|---|---|---|---|"
        )
        for patch in MEDIUM:
            _peaks(patch)
        return
    print("| patch | network | parameters (M) | GMAC | saved for backward (GB) |\n|---|---|---|---|---|")
    for patch, (dim, stages, size, widest) in SETTINGS.items():
        for name in NETWORKS:
            parameters, gmac, saved = count(name, dim, stages, size, widest)
            print(f"| {patch} | {name} | {parameters:.1f} | {gmac:.0f} | {saved:.2f} |", flush=True)
    if arguments.time:
        print("\n| patch, batch 2 | network | CPU time of a step (s, median) | fastest |\n|---|---|---|---|")
        for patch, (dim, stages, size, widest) in SMALL.items():
            for name in NETWORKS:
                times = step_times(name, dim, stages, size, widest, arguments.time)
                print(f"| {patch} | {name} | {statistics.median(times):.2f} | {min(times):.2f} |", flush=True)


if __name__ == "__main__":
    main()
