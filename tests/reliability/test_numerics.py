"""Whole networks in other precisions and layouts, and the same bits from the same seed."""

import copy

import pytest
import torch

from sdi_plugin import UNetV2
from sdi_plugin.ops import dispatch
from tests.reliability.soak import Network

pytestmark = [pytest.mark.slow]
NETWORKS = {
    "2d": (lambda: UNetV2("test_resnet", classes=2), (2, 3, 65, 98)),
    "3d": (lambda: Network(3), (1, 3, 21, 18, 25)),
}


def logits(network, x):
    outputs = network(x)
    return torch.cat([output.flatten() for output in outputs]) if isinstance(outputs, list) else outputs.flatten()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_converted_network_is_as_exact_as_plain_torch(name, dtype, monkeypatch, note):
    make, shape = NETWORKS[name]
    network = make().eval()
    x = torch.randn(shape)
    with torch.no_grad():
        exact = logits(copy.deepcopy(network).double(), x.double())
        ours = logits(network.to(dtype), x.to(dtype)).double()
        monkeypatch.setattr(dispatch, "FORCE_REFERENCE", True)
        plain = logits(network, x.to(dtype)).double()
    error, plains = ((found - exact).norm() / exact.norm() for found in (ours, plain))
    assert error <= 2 * plains + torch.finfo(dtype).eps
    note(f"{name} {dtype}", error=float(error), plain=float(plains))


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_keeps_the_layout_and_the_numbers(name):
    make, shape = NETWORKS[name]
    network, x = make().eval(), torch.randn(shape)
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    with torch.no_grad():
        plain, last = (
            logits(net, y)
            for net, y in ((network, x), (copy.deepcopy(network).to(memory_format=layout), x.to(memory_format=layout)))
        )
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2], ids="{}-threads".format)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_bits(name, threads):
    """On one number of threads: convolutions of torch itself, in the encoder, give others on another."""
    make, shape = NETWORKS[name]
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for _ in range(2):
            torch.manual_seed(0)
            network = make()
            optimizer = torch.optim.SGD(network.parameters(), 1e-2)
            for _ in range(2):
                loss = logits(network, torch.randn(shape)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found.append([p.detach().clone() for p in network.parameters()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
