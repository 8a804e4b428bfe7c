"""`sdi-plugin convert`: what it writes, what it says, and what it refuses without a trace."""

import json
import os
import pickle
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from safetensors import safe_open
from torch import Tensor

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"
from sdi_plugin import UNetV2, __version__, checkpoint
from sdi_plugin.adapters.nnunet import PVTUNetV2
from sdi_plugin.cli import main
from tests import official


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return official.state("pvt_v2_b0", classes=2, channels=16)


@pytest.fixture
def source(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    path = tmp_path / "official.pth"
    torch.save(weights, path)
    return path


def _convert(source: Path, target: Path, to: str, *options: str) -> int:
    return main(["convert", str(source), str(target), "--to", to, *options])


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


def test_official_to_core(tmp_path: Path, source: Path, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]):
    assert _convert(source, tmp_path / "x.safetensors", "core") == 0
    _assert_same(checkpoint.read(tmp_path / "x.safetensors"), checkpoint.convert(weights)[0])
    assert capsys.readouterr().out.splitlines() == [
        f"{source}: official U-Net v2 (encoder=pvt_v2_b0, in_channels=3, classes=2, channels=16, deep_supervision=4, "
        "norm=None, fusion=product); dropped encoder.backbone.head.weight, encoder.backbone.head.bias, deconv5.weight; "
        f"wrote {tmp_path / 'x.safetensors'} (core)",
        f"load it in Python: sdi_plugin.load({str(tmp_path / 'x.safetensors')!r})",
    ]
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        metadata = file.metadata()
    arguments = json.loads(metadata.pop("arguments"))
    card = checkpoint.Card.from_json(metadata.pop("card"))
    assert card.architecture == {"framework": "core", "arguments": arguments}
    assert card.versions["sdi-plugin"] == __version__
    assert metadata == {"format": "pt", "sdi_plugin": __version__, "naming": "core"}
    checkpoint.load(UNetV2(**arguments), tmp_path / "x.safetensors")


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_core_to_smp_and_back_is_exact(tmp_path: Path, weights: dict[str, Tensor], folder: bool):
    core = checkpoint.convert(weights)[0]
    core = {key: value.half() if ".heads." in key else value for key, value in core.items()}
    there = tmp_path / ("smp" if folder else "smp.safetensors")
    checkpoint.save(tmp_path / "core.safetensors", core)
    assert _convert(tmp_path / "core.safetensors", there, "smp") == 0
    assert _convert(there, tmp_path / "back.safetensors", "core") == 0
    _assert_same(checkpoint.read(tmp_path / "back.safetensors"), core)


def test_smp_loads_the_folder_and_computes_the_same(tmp_path: Path, source: Path):
    assert _convert(source, tmp_path / "smp", "smp") == 0
    assert sorted(os.listdir(tmp_path / "smp")) == ["README.md", "config.json", "model.safetensors"]
    network = smp.from_pretrained(str(tmp_path / "smp"))
    model = UNetV2("pvt_v2_b0", classes=2, channels=16, deep_supervision=4)
    checkpoint.load(model, source)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), model.eval()(x))
    assert len(network.auxiliary_heads) == 3


@pytest.mark.parametrize("naming", ["core", "smp", "nnunet"])
def test_official_to_nnunet_and_back_is_exact(tmp_path: Path, source: Path, weights: dict[str, Tensor], naming: str):
    assert _convert(source, tmp_path / "nnunet.pth", "nnunet") == 0
    network = PVTUNetV2(3, 2, "pvt_v2_b0", 16)
    load_pretrained_weights(network, str(tmp_path / "nnunet.pth"))  # all but the heads
    network.load_state_dict(checkpoint.read(tmp_path / "nnunet.pth"))
    target = tmp_path / f"back{'.pth' if naming == 'nnunet' else '.safetensors'}"
    assert _convert(tmp_path / "nnunet.pth", target, naming) == 0
    _assert_same(checkpoint.convert(checkpoint.read(target))[0], checkpoint.convert(weights)[0])


def test_one_head_is_enough_for_pretrained_weights(tmp_path: Path):
    core = UNetV2("pvt_v2_b0")
    checkpoint.save(tmp_path / "core.safetensors", core.state_dict())
    assert _convert(tmp_path / "core.safetensors", tmp_path / "nnunet.pth", "nnunet") == 0
    network = PVTUNetV2(3, 5, "pvt_v2_b0")
    load_pretrained_weights(network, str(tmp_path / "nnunet.pth"))
    _assert_same(
        {key: value for key, value in network.state_dict().items() if "seg_layers" not in key},
        {key: value for key, value in core.state_dict().items() if "heads" not in key},
    )


def test_what_smp_saved_becomes_core(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    network = smp.create_model("unetv2", "tu-pvt_v2_b0", None, decoder_norm="layer", aux_params={"classes": 3})
    network.save_pretrained(tmp_path / "smp")  # pyright: ignore[reportCallIssue]
    assert _convert(tmp_path / "smp", tmp_path / "x.safetensors", "core") == 0
    assert "dropped classification_head.3.bias, classification_head.3.weight;" in capsys.readouterr().out
    model = UNetV2("pvt_v2_b0", norm="layer").eval()
    checkpoint.load(model, tmp_path / "x.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), network.eval()(x)[0])


@pytest.mark.parametrize("name", ["x", "x.safetensors"], ids=["folder", "file"])
def test_an_existing_target_is_replaced_only_with_force(
    tmp_path: Path, source: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / name
    assert _convert(source, target, "smp") == 0
    file = target / "model.safetensors" if target.is_dir() else target
    file.write_bytes(b"mine")
    assert _convert(source, target, "smp") == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_bytes() == b"mine"
    assert _convert(source, target, "smp", "--force") == 0
    assert checkpoint.identify(checkpoint.read(file)) == "smp"
    assert sorted(os.listdir(tmp_path)) == ["official.pth", name]


def test_in_place_with_force(tmp_path: Path, weights: dict[str, Tensor]):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, weights)
    assert _convert(path, path, "core", "--force") == 0
    _assert_same(checkpoint.read(path), checkpoint.convert(weights)[0])


def _bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


class _MakesFolder:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path, state: None, "no such file", id="missing"),
        pytest.param(lambda path, state: _bytes(path, b""), "empty file", id="empty"),
        pytest.param(lambda path, state: _bytes(path, b"\x89PNG\r\n\x1a\n" * 9), "not a checkpoint", id="PNG"),
        pytest.param(lambda path, state: path.mkdir(), "folder without it", id="folder"),
        pytest.param(
            lambda path, state: (torch.save(state, path), _bytes(path, path.read_bytes()[:-1000])),
            "truncated",
            id="truncated",
        ),
        pytest.param(
            lambda path, state: _bytes(path, pickle.dumps(_MakesFolder(), protocol=2)), "was not run", id="code"
        ),
        pytest.param(lambda path, state: torch.save({"epoch": 1}, path), "got none", id="no tensors"),
        pytest.param(
            lambda path, state: torch.save({"conv1.weight": torch.ones(1)}, path),
            "another architecture, with conv1.weight",
            id="another architecture",
        ),
        pytest.param(
            lambda path, state: torch.save(official.pvt_v2_state("pvt_v2_b0"), path),
            "only those of an encoder",
            id="encoder",
        ),
        pytest.param(
            lambda path, state: torch.save(state | {"ca_2.fc1.weight": torch.ones(4, 3, 1, 1)}, path),
            "Different shapes: decoder.skip.reductions.1.channel_attention.fc1.weight "
            "(expected (4, 64, 1, 1), got (4, 3, 1, 1)).",
            id="another shape",
        ),
        pytest.param(
            lambda path, state: torch.save({k: v for k, v in state.items() if k != "sa_1.conv1.weight"}, path),
            "Missing: decoder.skip.reductions.0.spatial_attention.conv.weight.",
            id="a weight less",
        ),
        pytest.param(
            lambda path, state: torch.save(state | {"sdi_5.weight": torch.ones(1)}, path),
            "Unexpected: decoder.skip.sdi.4.weight.",
            id="a weight more",
        ),
    ],
)
@pytest.mark.parametrize("target", ["core.safetensors", "smp.safetensors", "smp"])
def test_bad_input_is_reported_in_one_line_and_writes_nothing(
    tmp_path: Path,
    weights: dict[str, Tensor],
    target: str,
    make,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in.pth"
    make(source, weights)
    before = os.listdir(tmp_path)
    assert _convert(source, tmp_path / target, target.partition(".")[0]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("sdi-plugin: error: ")
    assert output.err.count("\n") == 1
    assert said in output.err
    assert str(source) in output.err
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "to", "said"),
    [
        pytest.param("x", "core", "expected OUT to end in .safetensors", id="core to a folder"),
        pytest.param("x.pth", "core", "expected OUT to end in .safetensors", id="core to .pth"),
        pytest.param("x.pth", "smp", "or a folder without a suffix", id="smp to .pth"),
        pytest.param("x", "nnunet", "expected OUT to end in .pth", id="nnunet to a folder"),
        pytest.param("none/x.safetensors", "core", "no such folder", id="no folder for a file"),
        pytest.param("none/x", "smp", "no such folder", id="no folder for a folder"),
        pytest.param("folder.safetensors", "core", "expected a file, got a folder", id="a folder of that name"),
        pytest.param("file", "smp", "expected a folder, got a file", id="a file of that name"),
    ],
)
def test_bad_targets_are_reported(
    tmp_path: Path, source: Path, target: str, to: str, said: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert _convert(source, tmp_path / target, to, "--force") == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["x.safetensors", "x"], ids=["file", "folder"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, source: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert _convert(source, tmp_path / name, "smp") == 2
    assert "could not be written: No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["official.pth"]


def test_help_shows_an_example_and_other_namings_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "--help"])
    assert stopped.value.code == 0
    assert "sdi-plugin convert official.pth unetv2.safetensors --to core" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "a", "b", "--to", "keras"])
    assert stopped.value.code == 2
