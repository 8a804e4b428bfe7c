"""Networks for volumes: exported alone, and predicted by nnU-Net's own reader and predictor."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sdi_plugin.adapters.nnunet import PlainConvUNetV2
from sdi_plugin.checkpoint import Card
from sdi_plugin.deploy import Loaded, Predictor, export
from sdi_plugin.deploy import volumes as deploy_volumes
from sdi_plugin.deploy.graph_backend import GraphBackend


def volumes() -> Loaded:
    """Two levels with a stride that differs by axis, of which sizes are multiples of (1, 2, 2)."""
    torch.manual_seed(0)
    plan = {"conv_op": nn.Conv3d, "kernel_sizes": 3, "strides": [1, (1, 2, 2)], "n_conv_per_stage": 1}
    norm = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}, "nonlin": nn.LeakyReLU}
    network = PlainConvUNetV2(
        1, 3, n_stages=2, features_per_stage=[4, 6], channels=4, norm="layer", fusion="asinh", **plan, **norm
    )
    return Loaded(network.eval(), Card(labels=("background", "a", "b")), Path(__file__))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    result = export(volumes(), tmp_path_factory.mktemp("volumes"))
    assert result.error < 1e-5
    return result


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_for_volumes_takes_any_size(exported, runtime):
    backend = GraphBackend(exported.file, runtime)
    for size in ((4, 8, 8), (6, 12, 20), (16, 16, 8)):
        inputs = torch.randn(2, 1, *size)
        expected = volumes()(inputs)
        error = np.abs(backend(inputs.numpy()) - expected.numpy()).max()
        assert error < 1e-4 * expected.abs().max()


def test_the_sidecar_says_that_the_network_is_alone(exported):
    said = json.loads(exported.file.read_text())
    assert said["inputs"][0]["shape"] == ["batch", 1, "depth", "height", "width"]
    assert [each["name"] for each in said["outputs"]] == ["logits"]
    assert (said["raw"], said["normalised_inside"], said["tiles"]) == (True, False, None)
    assert said["multiple"] == [1, 2, 2]


def test_what_volumes_have_no_place_for_is_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="got one for volumes"):
        Predictor(exported.file)
    with pytest.raises(ValueError, match="got one for volumes"):
        Predictor(volumes())
    with pytest.raises(ValueError, match="which is exported alone"):
        export(volumes(), tmp_path, size=(64, 64))


class Copying:
    """A stand-in for nnU-Net's predictor: a mask is the bytes of all channels."""

    ending, channels = ".nii.gz", 2

    def __call__(self, files, target):
        content = b"".join(file.read_bytes() for file in files)
        if b"bad" in content:
            raise RuntimeError("unreadable")
        target.with_name(target.name + self.ending).write_bytes(content)


def test_files_are_grouped_into_cases_and_finished_ones_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(deploy_volumes, "export_of", lambda name: SimpleNamespace(volumes=lambda *_: Copying()))
    model = Loaded(nn.Identity(), Card(architecture={"framework": "nnunet", "arguments": {}}), Path("x.pth"))
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in ("a_0000", "a_0001", "b_0000", "bad_0000", "bad_0001"):
        (scans / f"{name}.nii.gz").write_text(name)
    summary = deploy_volumes.predict(model, [scans], out)
    assert (out / "masks" / "a.nii.gz").read_text() == "a_0000a_0001"
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["a.nii.gz"]
    assert (summary.done, sorted(summary.failed.values())) == (
        1,
        ["expected 2 files b_0000.nii.gz ..., got 1", "unreadable"],
    )
    again = deploy_volumes.predict(model, [str(scans / "a_*")], out)
    assert (again.done, again.skipped) == (0, 1)
    with pytest.raises(FileNotFoundError, match="found none"):
        deploy_volumes.predict(model, [tmp_path], out)
    with pytest.raises(ValueError, match="without its plans"):
        deploy_volumes.predict(Loaded(nn.Identity(), Card(), Path("x.pth")), [scans], out)
