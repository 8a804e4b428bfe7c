import socket
import sys
import threading
import time

import pytest
import timm
import torch

import sdi_plugin.encoder as encoder_module
from sdi_plugin import UNetV2
from sdi_plugin.encoder import TimmEncoder, check_reachable


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
    monkeypatch.setattr(encoder_module, "check_reachable", lambda *_: None)
    with pytest.raises(RuntimeError, match="no route to host.*encoder_weights=FILE"):
        UNetV2("pvt_v2_b0", encoder_weights=True)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="pvt.pth"):
        UNetV2("pvt_v2_b0", encoder_weights=tmp_path / "pvt.pth")


def test_an_answer_of_any_kind_is_reachable_and_none_is_an_error_in_time():
    def serve(status: bytes | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def answer():
            connection, _ = listener.accept()
            connection.recv(1000)
            if status is None:
                time.sleep(1)
            else:
                connection.sendall(b"HTTP/1.0 " + status + b"\r\n\r\n")
            connection.close()
            listener.close()

        threading.Thread(target=answer, daemon=True).start()
        return listener.getsockname()[1]

    for status in (b"200 OK", b"404 Not Found"):
        check_reachable(f"http://127.0.0.1:{serve(status)}/", "what", "cure")
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="what .*cure"):
        check_reachable(f"http://127.0.0.1:{serve(None)}/", "what", "cure", seconds=0.3)
    assert time.monotonic() - start < 0.9
