"""`sdi-plugin convert` to MMSegmentation and back."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from mmengine.config import Config, DictAction

import sdi_plugin.adapters.mmsegmentation
import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"
from sdi_plugin import checkpoint
from sdi_plugin.cli import main

from mmseg.apis import init_model

CONFIG = Path(__file__).parents[2] / "configs" / "unetv2_pvt_isic.py"


def convert(source: Path, target: Path, to: str) -> int:
    return main(["convert", str(source), str(target), "--to", to])


@pytest.fixture(scope="module")
def trained() -> Any:
    """A model of smp whose running statistics are not those of a new one."""
    model: Any = smp.create_model(
        "unetv2", "tu-pvt_v2_b0", None, classes=1, decoder_channels=16, deep_supervision=2, drop_path_rate=0.1
    )
    model(torch.randn(2, 3, 64, 64))
    return model.eval()


def options_of(printed: str) -> dict[str, Any]:
    """The printed options, as mmseg's scripts read them after --cfg-options."""
    (line,) = (line for line in printed.splitlines() if line.startswith("options of the model: "))
    pairs = (option.split("=", 1) for option in line.removeprefix("options of the model: ").split())
    return {key: DictAction._parse_iterable(value) for key, value in pairs}


@pytest.mark.filterwarnings("ignore::UserWarning")  # mmseg's advice about its own losses
def test_a_network_of_smp_works_in_mmseg_with_equal_outputs(tmp_path, trained, capsys):
    trained.save_pretrained(tmp_path / "smp")
    assert convert(tmp_path / "smp", tmp_path / "x.pth", "mmseg") == 0
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(options_of(capsys.readouterr().out))
    model = init_model(config, str(tmp_path / "x.pth"), device="cpu")
    assert model.dataset_meta["classes"] == ["background", "foreground"]
    for size in [(64, 64), (70, 101)]:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = trained(x)
            found = model.encode_decode(x, [{"img_shape": size}])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        assert expected.std() > 0


def test_a_checkpoint_of_mmengine_works_in_smp_and_comes_back_bit_for_bit(tmp_path, trained):
    state, _ = checkpoint.convert(trained.state_dict(), "mmseg")
    state["auxiliary_head.conv_seg.weight"] = torch.zeros(1)  # used in training only, like the optimiser's state
    torch.save({"meta": {"iter": 3}, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "iter_3.pth")
    assert convert(tmp_path / "iter_3.pth", tmp_path / "smp", "smp") == 0
    model: Any = smp.from_pretrained(str(tmp_path / "smp"))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), trained(x))
    assert convert(tmp_path / "smp", tmp_path / "back.pth", "mmseg") == 0
    back = checkpoint.read(tmp_path / "back.pth")
    del state["auxiliary_head.conv_seg.weight"]
    assert back.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in back.items())


def test_what_it_refuses_leaves_nothing(tmp_path, trained, capsys):
    trained.save_pretrained(tmp_path / "smp")
    assert convert(tmp_path / "smp", tmp_path / "x.safetensors", "mmseg") == 2
    assert "expected OUT to end in .pth, which mmengine reads" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smp"]
