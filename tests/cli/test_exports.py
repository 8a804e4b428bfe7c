"""The protocol by which `sdi-plugin convert` asks the core and the adapters."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdi_plugin import checkpoint
from sdi_plugin.adapters.mmsegmentation import export as mmseg
from sdi_plugin.adapters.nnunet import export as nnunet
from sdi_plugin.adapters.smp import export as smp
from sdi_plugin.checkpoint import Converted, Export, names
from sdi_plugin.cli import main
from sdi_plugin.deploy import core_export
from sdi_plugin.deploy import exports as registry
from tests import official

EXPORTS: dict[str, Export] = {"core": core_export, "smp": smp, "mmseg": mmseg, "nnunet": nnunet}
exports = pytest.mark.parametrize("to", EXPORTS)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return official.state("pvt_v2_b0", classes=2, channels=16)


@pytest.fixture
def source(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, tmp_path / "official.pth")
    return tmp_path / "official.pth"


def test_the_command_knows_every_export():
    assert {to: registry.export_of(to) for to in registry.EXPORTS} == EXPORTS


@exports
@pytest.mark.parametrize("heads", [0, 4], ids=["one-head", "four-heads"])
def test_the_network_that_is_built_has_the_names_and_shapes_of_the_target(to: str, heads: int):
    description: dict[str, Any] = {
        "encoder": "pvt_v2_b0",
        "in_channels": 2,
        "classes": 3,
        "channels": 16,
        "deep_supervision": heads,
        "norm": "layer",
        "fusion": "asinh",
    }
    network: nn.Module = checkpoint.without_weights(lambda: EXPORTS[to].build(description))
    state = {name: value.to("meta") for name, value in network.state_dict().items()}
    naming, core, dropped = names.to_core(state)
    assert (naming, dropped) == (to, [])
    assert names.from_core(core, to).keys() == state.keys()
    assert checkpoint.describe(state) == description


@exports
def test_every_kind_of_target_is_read_back(to: str, weights: dict[str, Tensor], tmp_path: Path):
    found = checkpoint.recognise(weights)
    network = checkpoint.without_weights(lambda: EXPORTS[to].build(found.description))
    for suffix in EXPORTS[to].SUFFIXES:
        target = tmp_path / f"out{suffix}"
        EXPORTS[to].write(target, Converted(found.named(to), network, found.description, {"format": "pt"}))
        back = checkpoint.recognise(checkpoint.read(target if suffix else target / "model.safetensors"))
        assert back.description == found.description
        assert all(torch.equal(value, found.core[name]) for name, value in back.core.items())


def test_a_file_is_recognised_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    identify = names._naming
    monkeypatch.setattr(names, "_naming", lambda state: calls.append(len(state)) or identify(state))
    assert main(["convert", str(source), str(tmp_path / "x.safetensors"), "--to", "core"]) == 0
    assert len(calls) == 1


def test_a_framework_matters_only_where_it_is_asked_for(source: Path, tmp_path: Path):
    for to in ("smp", "mmseg", "nnunet"):
        target = tmp_path / f"{to}{EXPORTS[to].SUFFIXES[0]}"
        assert main(["convert", str(source), str(target), "--to", to]) == 0
    code = (
        "import sys\n"
        "for name in ('segmentation_models_pytorch', 'mmengine', 'mmcv', 'mmseg', 'nnunetv2'):\n"
        "    sys.modules[name] = None\n"
        "from sdi_plugin.cli import main\n"
        "folder = sys.argv[1]\n"
        "for name in ('smp', 'mmseg.pth', 'nnunet.pth'):\n"
        "    assert main(['convert', f'{folder}/{name}', f'{folder}/{name[:3]}.safetensors', '--to', 'core']) == 0\n"
        "for to, out in (('smp', 'x'), ('mmseg', 'x.pth'), ('nnunet', 'x.pth')):\n"
        "    assert main(['convert', f'{folder}/smp', f'{folder}/{out}', '--to', to]) == 2\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for extra, line in zip(("smp", "mmseg", "nnunet"), done.stderr.splitlines(), strict=True):
        assert line.startswith("sdi-plugin: error: sdi_plugin.adapters.")
        assert f"pip install 'sdi-plugin[{extra}]'" in line
    states = [checkpoint.read(tmp_path / f"{name}.safetensors") for name in ("smp", "mms", "nnu")]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())
