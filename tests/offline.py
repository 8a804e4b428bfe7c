"""`python -m tests.offline FOLDER`: what users do, in a process that may not open a connection or look up a name."""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

FORBIDDEN = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
seen: list[str] = []  # also what a library has caught
ADAPTERS = ("smp", "mmsegmentation", "nnunet")


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN:
        seen.append(event)
        raise AssertionError(f"expected no connection, got {event} {arguments[1:]}")


def main(folder: Path) -> None:
    sdi_plugin: Any = importlib.import_module("sdi_plugin")
    smp, *_ = (importlib.import_module(f"sdi_plugin.adapters.{name}") for name in ADAPTERS)
    network = sdi_plugin.UNetV2("test_resnet", channels=4)
    smp.UNetV2("tu-test_resnet", encoder_weights=None, decoder_channels=4)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    network.save(folder / "model.safetensors")
    Image.new("RGB", (40, 32)).save(folder / "a.png")

    from sdi_plugin import deploy
    from sdi_plugin.cli import main as command
    from tests.deploy.networks import small

    model = str(folder / "model.safetensors")
    assert command(["predict", model, str(folder / "a.png"), "--out", str(folder / "out")]) == 0
    assert command(["convert", model, str(folder / "smp"), "--to", "smp"]) == 0
    exported = deploy.export(small(), folder / "exported", format="pt2", size=(32, 32))
    assert deploy.Predictor(exported.file)(folder / "a.png").mask.shape == (32, 40)


if __name__ == "__main__":
    sys.addaudithook(forbid)
    main(Path(sys.argv[1]))
    print(seen or "offline")
