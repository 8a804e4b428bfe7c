"""Which models of timm are encoders of U-Net v2, and what each costs: docs/encoders.md.

python -m benchmarks.encoders                   measures what results/encoders/ lacks, in some minutes; writes the page
python -m benchmarks.encoders --onnx [NAME ...] exports those, or all, whose export it lacks, in an hour; likewise
python -m benchmarks.encoders --memory          measures a training step of a ViT, frozen and not; writes the page
python -m benchmarks.encoders NAME ...          prints the rows of these models
"""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.environment import run_module
from benchmarks.memory import peak_extra_bytes, saved_bytes
from sdi_plugin import UNetV2, deploy, files
from sdi_plugin.checkpoint import Card

RESULTS = Path(__file__).parent / "results" / "encoders" / "encoders.json"
MEMORY = RESULTS.with_name("memory.json")
PAGE = Path(__file__).parents[1] / "docs" / "encoders.md"
ANY_SIZE = (97, 130)

# One or two of each family.
_HIERARCHICAL = """
pvt_v2_b0 pvt_v2_b2 resnet18 resnet50 resnext50_32x4d regnety_002 res2net50_26w_4s resnest14d densenet121 vgg11_bn dla34
hrnet_w18_small efficientnet_b0 tf_efficientnet_lite0 tf_efficientnet_lite2 mobilenetv3_small_050 mobilenetv4_conv_small
mobileone_s0 repvit_m0_9 starnet_s1 ghostnet_100 hgnet_tiny cspdarknet53 convnext_atto convnext_tiny convnextv2_atto
inception_next_atto rdnet_tiny poolformer_s12 caformer_s18 mambaout_femto edgenext_xx_small fastvit_t8 mobilevit_xxs
efficientvit_b0 efficientformerv2_s0 levit_128s tiny_vit_5m_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256
davit_tiny focalnet_tiny_srf nextvit_small twins_svt_small mvitv2_tiny hiera_tiny_224 sam2_hiera_tiny
maxvit_tiny_tf_224 coatnet_0_rw_224 gcvit_xxtiny
"""
_PLAIN = """
vit_tiny_patch16_224 vit_small_patch16_224 deit_tiny_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224
vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3 vit_base_patch16_siglip_224
samvit_base_patch16_224
"""

HEADER = """# Encoders

Any model of timm for which timm gives feature maps is an encoder, in [the core](reference/core.md), [smp](smp.md),
[MMSegmentation](mmsegmentation.md) and [nnU-Net](nnunet.md). The table has one or two of each family; `python -m
benchmarks.encoders` measures it, and `python -m benchmarks.encoders NAME` any other.

- Each has built `UNetV2`, and run a training step in which every parameter got a gradient.
- Strides and channels of the levels, fine to coarse. Plain ViTs (the second table) get a small pyramid on the tokens of
  four blocks, at 1/4, 1/2, 1 and 2 patches. `stem=True` puts light convolutions at strides 1 and 2 before an encoder
  that starts at 4 (16 and 32 channels), for boundary detail; in smp and MMSegmentation likewise, in nnU-Net with
  `_stem` in the trainer's name.
- Images: any size; padded with zeros to a multiple; or one size, which `image_size=` chooses.
- Parameters and GMAC of the encoder, at 224 x 224 pixels or its only size.
- Kept: MiB that the encoder in evaluation mode keeps for the backward pass of one image, in float32, and with
  `freeze=True`.
- ONNX: the images that `sdi-plugin export` takes with this encoder: of any size, or resized by the graph to one. The
  logits of the graph and of torch differ by at most 1e-4 of the largest, on five sizes.
"""
VIT = "vit_small_patch16_224"
FROZEN = f"""
## A training step with a frozen encoder

`UNetV2("{VIT}")`, trained and with `freeze=True` (the pyramid on its tokens trains), 8 images of
224 x 224 pixels, two supervised heads, float32, on a CPU: the peak memory of forward and backward beyond the network,
its gradients and the images, and what autograd keeps for backward. `python -m benchmarks.encoders --memory` measures
it.

"""
COLUMNS = ("encoder", "strides", "channels", "images", "parameters (M)", "GMAC", "kept", "kept, frozen")
ONNX = "ONNX"
LIMIT = 180  # seconds of CPU per export: torch's reasoning about sizes can take hours


def measure(name: str) -> tuple[str, ...]:
    """A row of the page.

    Raises:
        ValueError: the model is no encoder, or a parameter gets no gradient.
    """
    torch.manual_seed(0)
    model = UNetV2(name, channels=8, deep_supervision=2)
    encoder = model.encoder
    step(model, encoder.image_size or ANY_SIZE)
    size = encoder.image_size or (224, 224)
    x = encoder.pad(torch.randn(1, 3, *size))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.eval()(x)
    trained = kept(encoder, x)
    encoder.network.requires_grad_(False)
    frozen = kept(encoder, x)
    images = "any" if encoder.multiple == 1 else f"multiples of {encoder.multiple}"
    if encoder.image_size:
        images = "x".join(map(str, size))
    return (
        name,
        ", ".join(f"{stride:g}" for stride in encoder.strides),
        ", ".join(map(str, encoder.out_channels)),
        images,
        f"{sum(parameter.numel() for parameter in encoder.parameters()) / 1e6:.1f}",
        f"{counter.get_total_flops() / 2e9:.2f}",
        f"{trained:.0f}",
        f"{frozen:.0f}",
    )


def step(model: UNetV2, size: tuple[int, int]) -> None:
    outputs: Any = model.train()(torch.randn(2, 3, *size))
    torch.stack([logits.square().mean() for logits in outputs]).sum().backward()
    if unused := [name for name, parameter in model.named_parameters() if parameter.grad is None]:
        raise ValueError(f"{model.encoder.name}: no gradient for {len(unused)} parameters, such as {unused[0]}.")
    model.zero_grad()


def kept(encoder: Any, x: torch.Tensor) -> float:
    """MiB for backward, in evaluation mode, which differs from training by batch norm's few numbers alone."""
    return saved_bytes(lambda: encoder(x), encoder.parameters())[1] / 2**20


def export(name: str) -> dict[str, Any]:
    """What `sdi-plugin export` makes of the network: the `size` that its graph resizes images to, "any" or None, where
    it has none, and the `error` or the `reason`.
    """
    signal.signal(signal.SIGPROF, _stop)
    torch.manual_seed(0)
    network = UNetV2(name, channels=8).eval()
    mean, std = (tuple(255 * value for value in network.preprocessing[key]) for key in ("mean", "std"))
    reason = ""
    for size in (network.encoder.image_size,) if network.encoder.image_size else ("dynamic", (224, 224)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                signal.setitimer(signal.ITIMER_PROF, LIMIT)
                found = deploy.export(deploy.Loaded(network, Card(mean, std), Path(folder)), folder, size=size)
            except (deploy.ExportError, _OverLimitError) as error:
                reason = reason or str(error).partition(" Pass a size")[0]
                continue
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        return {"size": "any" if size == "dynamic" else "x".join(map(str, size)), "error": found.error}
    return {"size": None, "reason": reason}


class _OverLimitError(Exception):
    pass


def _stop(number: int, frame: Any) -> None:
    raise _OverLimitError(f"export: more than {LIMIT} seconds")


def table(rows: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def memory(name: str, freeze: bool) -> dict[str, int]:
    """Bytes of a training step (batch 8, 224 x 224, float32): `peak`, beyond network and images, and `saved`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = UNetV2(name, deep_supervision=2, freeze=freeze).train()
    x = torch.randn(8, 3, 224, 224)
    for parameter in model.parameters():  # allocated in any training
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    def loss() -> torch.Tensor:
        outputs: Any = model(x)
        return torch.stack([logits.square().mean() for logits in outputs]).sum()

    return {
        "peak": peak_extra_bytes(lambda: loss().backward()),
        "saved": saved_bytes(loss, model.parameters())[1],
    }


def _memory_table() -> str:
    found = json.loads(MEMORY.read_text())
    rows = [(how, *(f"{each[key] / 2**20:.0f}" for key in ("peak", "saved"))) for how, each in found.items()]
    return table(rows, ("encoder", "peak (MiB)", "kept for backward (MiB)"))


def page(results: dict[str, Any]) -> str:
    tables = [
        table(
            [(*results[name]["row"], _exported(results[name].get("onnx"))) for name in group.split()], (*COLUMNS, ONNX)
        )
        for group in (_HIERARCHICAL, _PLAIN)
    ]
    several, plain = "## With feature maps at several strides", "## Plain ViTs"
    return f"{HEADER}\n{several}\n\n{tables[0]}\n{plain}\n\n{tables[1]}{FROZEN}{_memory_table()}"


def _exported(found: dict[str, Any] | None) -> str:
    return "not tried" if found is None else found["size"] or "no"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--memory-of"]:  # in a process of its own
        print(json.dumps(memory(VIT, arguments[1] == "frozen")))
        return
    if arguments == ["--memory"]:
        found = {how: run_module("benchmarks.encoders", "--memory-of", how) for how in ("trained", "frozen")}
        files.write(MEMORY, (json.dumps(found, indent=1) + "\n").encode())
        PAGE.write_text(page(json.loads(RESULTS.read_text())))
        return
    kind, of = ("onnx", export) if arguments[:1] == ["--onnx"] else ("row", measure)
    if arguments and kind == "row":
        print(table([measure(name) for name in arguments]), end="")
        return
    results, failed = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}, []
    for name in arguments[1:] or f"{_HIERARCHICAL} {_PLAIN}".split():
        entry = results.setdefault(name, {})
        if kind in entry:
            continue
        try:
            entry[kind] = of(name)
        except Exception as error:  # timm's own, too: the others are measured all the same
            failed.append(f"{name}: {error}")
            print(failed[-1], file=sys.stderr)
            continue
        print(name, entry[kind], flush=True)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        files.write(RESULTS, (json.dumps(results, indent=1) + "\n").encode())
    if failed:
        raise SystemExit(f"benchmarks.encoders: the page is unchanged; {len(failed)} models failed, see above.")
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main(sys.argv[1:])
