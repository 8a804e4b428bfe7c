import sys

import pytest
import timm
import torch

from sdi_plugin import UNetV2, hub
from sdi_plugin.encoder import TimmEncoder


def test_features_are_those_of_timm():
    torch.manual_seed(1)
    encoder = TimmEncoder("pvt_v2_b0", in_channels=2, drop_path=0).eval()
    torch.manual_seed(1)
    reference = timm.create_model("pvt_v2_b0", in_chans=2, features_only=True).eval()
    x = torch.randn(1, 2, 45, 70)
    with torch.no_grad():
        torch.testing.assert_close(list(encoder(x)), reference(x), rtol=0, atol=0)
    assert encoder.out_channels == (32, 64, 160, 256)


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'sdi-plugin\[smp\]'"):
        UNetV2("pvt_v2_b0")


def test_an_unreachable_hub_is_an_error_that_says_how_to_give_a_file(monkeypatch):
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    with pytest.raises(RuntimeError, match="no route to host.*encoder_weights=FILE"):
        UNetV2("pvt_v2_b0", encoder_weights=True)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="pvt.pth"):
        UNetV2("pvt_v2_b0", encoder_weights=tmp_path / "pvt.pth")
