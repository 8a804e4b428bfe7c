"""Files that the documents' snippets read, small and made when a snippet names them."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from sdi_plugin.cli import main
from sdi_plugin.cli.demo.images import lesion_image
from tests import official
from tests.data.layouts import CASES, write_folder
from tests.docs.pages import ROOT


def provide(code: str, folder: Path) -> None:
    """Make every file of the table that the code names, and that is not there."""
    for name, make in _FILES.items():
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", code) and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)


def _image(path: Path) -> None:
    lesion_image((0,), 64)[0].save(path)


def _mask(path: Path) -> None:
    lesion_image((0,), 64)[1].save(path)


def _official(path: Path) -> None:
    torch.save(official.state("pvt_v2_b0", channels=32), path)


def _encoder(path: Path) -> None:
    torch.save(official.pvt_v2_state(path.stem), path)


def _smp_model(path: Path) -> None:
    import segmentation_models_pytorch as smp

    import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"

    smp.UNetV2("tu-pvt_v2_b0", encoder_weights=None).save_pretrained(path)  # pyright: ignore[reportAttributeAccessIssue]


def _mmseg_checkpoint(path: Path) -> None:
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    import sdi_plugin.adapters.mmsegmentation  # noqa: F401  before mmseg

    from mmseg.registry import MODELS

    config = Config.fromfile(ROOT / "configs" / "unetv2_pvt_isic.py").model
    config.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(config)
    names = {"classes": ("background", "lesion"), "palette": [[0, 0, 0], [255, 0, 0]]}
    torch.save({"state_dict": model.state_dict(), "meta": {"dataset_meta": names}}, path)


def _nnunet_checkpoint(path: Path) -> None:
    from sdi_plugin.adapters.nnunet import PVTUNetV2

    network = PVTUNetV2(3, 2, "pvt_v2_b0", heads=4)
    torch.save({"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainerUNetV2PVT"}, path)


def _isic2018(path: Path) -> None:
    write_folder(CASES["isic2018-official"][1], path)


def _prepared(case: str) -> Callable[[Path], None]:
    """A data set as `sdi-plugin data prepare --layout mmseg` writes it."""

    def make(path: Path) -> None:
        name, files, _ = CASES[case]
        source = write_folder(files, path.parent / "downloaded" / name)
        assert main(["data", "prepare", name, "--source", str(source), "--out", str(path), "--layout", "mmseg"]) == 0

    return make


_FILES: dict[str, Callable[[Path], None]] = {
    "case.jpg": _image,
    "mask.png": _mask,
    "official.pth": _official,
    "UNet_v2_official.pth": _official,
    "pvt_v2_b0.pth": _encoder,
    "pvt_v2_b2.pth": _encoder,
    "unetv2-smp": _smp_model,
    "runs/isic2018/model": _smp_model,
    "work/iter_75000.pth": _mmseg_checkpoint,
    "RESULTS/fold_0/checkpoint_final.pth": _nnunet_checkpoint,
    "Downloads/isic2018": _isic2018,
    "data/isic2018": _prepared("isic2018-official"),
    "data/ph2": _prepared("ph2-official"),
    "data/kvasir": _prepared("kvasir-pranet"),
    "data/clinicdb": _prepared("clinicdb-pranet"),
}
