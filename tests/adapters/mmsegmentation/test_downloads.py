"""Weights and checkpoints by URL: one download per machine, a hash that is checked, an error that every process
gets."""

import hashlib
import time

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from sdi_plugin import hub
from sdi_plugin.adapters.mmsegmentation import downloads
from tests import official

from mmseg.registry import MODELS

URL = "https://weights.invalid/a/weights.pth"


def init_backbone(url):
    return MODELS.build({"type": "PVTv2", "name": "pvt_v2_b0", "init_cfg": {"type": "Pretrained", "checkpoint": url}})


USERS = {
    "init_cfg": lambda url: init_backbone(url).init_weights(),
    "load_from": lambda url: CheckpointLoader.load_checkpoint(url, "cpu"),
}
users = pytest.mark.parametrize("load", USERS.values(), ids=USERS.keys())


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """torch's cache, in a folder of the test's own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


@pytest.fixture
def answering(monkeypatch):
    """A host that answers with an official checkpoint. Returns the URLs that were asked for."""
    calls = []

    def download(url, target, hash_prefix=None):
        calls.append(url)
        torch.save(official.state("pvt_v2_b0"), target)

    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return calls


@users
def test_a_url_is_downloaded_once(answering, load):
    load(URL)
    load(URL)
    assert answering == [URL]


@users
def test_an_unreachable_host_is_an_error_within_ten_seconds(monkeypatch, load):
    def never_answers(*_, **__):
        time.sleep(12)
        raise OSError("too late")

    monkeypatch.setattr("urllib.request.urlopen", never_answers)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="no answer within 5 s.*Download .* elsewhere"):
        load(URL)
    assert time.monotonic() - start < 10


@users
def test_a_file_with_another_hash_is_an_error_and_is_not_loaded(answering, cache, load):
    load(URL)
    right = hashlib.sha256((cache / "weights.pth").read_bytes()).hexdigest()
    load(f"{URL}#sha256={right.upper()}")
    with pytest.raises(RuntimeError, match=f"expected .*weights.pth to have the SHA-256 {'0' * 64}, got {right}"):
        load(f"{URL}#sha256={'0' * 64}")


@users
@pytest.mark.parametrize(
    "failure", [None, hub.HubError("load_from", "it", "no route", "Cure.")], ids=["there", "failed"]
)
def test_only_the_first_process_of_a_machine_downloads_and_all_learn_of_a_failure(
    answering, monkeypatch, load, failure
):
    load(URL)  # as if by the first process
    monkeypatch.setattr(downloads, "is_distributed", lambda: True)
    monkeypatch.setattr(downloads, "get_local_rank", lambda: 1)
    monkeypatch.setattr(downloads, "all_gather_object", lambda mine: [failure, mine])
    if failure is None:
        load(URL)
    else:
        with pytest.raises(RuntimeError, match="could not get it"):
            load(URL)
    assert answering == [URL]
