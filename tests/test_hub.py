"""Weights from hubs and URLs: an error in time, with what, why and the cure, whatever failed."""

import hashlib
import pickle
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

from sdi_plugin import hub
from sdi_plugin.hub import HubError


def serve(status: bytes | None) -> str:
    """The URL of a host that gives one answer, or takes a second to give none."""
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
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"], ids=["found", "not-found"])
def test_an_answer_of_any_kind_is_reachable(status):
    assert hub.unreachable(serve(status)) is None


def test_no_answer_is_reported_in_time():
    start = time.monotonic()
    assert hub.unreachable(serve(None), seconds=0.3) in ("no answer within 0.3 s", "timed out")  # whichever comes first
    assert time.monotonic() - start < 0.9


@pytest.fixture
def out_of_reach(monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda url: "no route")


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not-cached"])
def test_a_hub_that_is_out_of_reach_is_asked_only_where_the_cache_has_the_weights(out_of_reach, monkeypatch, cached):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: file if cached else None)
    calls = []

    def client() -> str:
        calls.append("asked")
        return "weights"

    if cached:
        assert hub.get(client, "Owner", "the weights", "Cure.", repository="a/b") == "weights"
    else:
        with pytest.raises(HubError, match=r"^Owner: could not get the weights \(no route\)\. Cure\.$"):
            hub.get(client, "Owner", "the weights", "Cure.", repository="a/b")
    assert calls == ["asked"] * cached


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("disk full"), "disk full"), (KeyError(), "KeyError")], ids=["text", "no-text"]
)
def test_whatever_the_client_raises_becomes_the_one_error(error, reason):
    def client():
        raise error

    with pytest.raises(HubError) as raised:
        hub.get(client, "Owner", "the weights", "Cure.")
    assert str(raised.value) == f"Owner: could not get the weights ({reason}). Cure."
    assert raised.value.__cause__ is error


def test_the_error_reaches_another_process_and_takes_another_cure():
    error = HubError("Owner", "the weights", "no route", "Pass a file.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error.with_cure("Name it.")) == "Owner: could not get the weights (no route). Name it."


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_a_file_in_the_cache_is_checked_and_not_downloaded(out_of_reach, monkeypatch, tmp_path: Path, right):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "weights.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights" if right else b"others").hexdigest()
    url = f"https://weights.invalid/a/weights.pth#sha256={sha256.upper()}"
    if right:
        assert hub.fetch(url, "Owner", "Cure.") == file
    else:
        with pytest.raises(HubError, match=f"expected .*weights.pth to have the SHA-256 {sha256}, got .*Remove it"):
            hub.fetch(url, "Owner", "Cure.")
