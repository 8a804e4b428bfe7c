import importlib.util
import json

import pytest

from sdi_plugin import frameworks, ops
from sdi_plugin.cli import info, main


def test_json_has_the_promised_keys(capsys):
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["versions", "devices", "backends", "frameworks"]
    assert found["versions"]["torch"] is not None
    assert found["devices"][0]["device"] == "cpu"
    assert found["backends"] == ops.backends()
    assert found["frameworks"]["segmentation-models-pytorch"]["supported"]


def test_text_names_every_backend_and_framework(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for name in (*ops.backends(), "segmentation-models-pytorch", "mmsegmentation", "nnunetv2"):
        assert name in text


@pytest.mark.parametrize(
    ("version", "supported", "reason"),
    [
        ("0.6.0", True, ""),
        ("0.5.1", True, ""),
        ("0.4.9", False, "expected segmentation-models-pytorch >=0.5,<0.7"),
        ("0.7.0rc1", False, "expected segmentation-models-pytorch >=0.5,<0.7"),
        ("0.10.0", False, "expected segmentation-models-pytorch >=0.5,<0.7"),
        (None, False, "not installed"),
    ],
    ids=str,
)
def test_versions_out_of_range_are_reported(version, supported, reason, monkeypatch):
    monkeypatch.setattr(frameworks, "version", lambda name: version)
    framework = info.collect()["frameworks"]["segmentation-models-pytorch"]
    assert (framework["supported"], framework["reason"]) == (supported, reason)


def test_every_framework_has_an_adapter_that_is_there():
    for name, framework in info.collect()["frameworks"].items():
        assert importlib.util.find_spec(framework["adapter"]), name
