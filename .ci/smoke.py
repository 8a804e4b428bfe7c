"""Run outside the checkout against an installed wheel: what a user tries first."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from importlib import metadata

import segmentation_models_pytorch as smp
import torch

import sdi_plugin
import sdi_plugin.adapters.smp  # registers "unetv2"

assert importlib.util.find_spec("adapters") is None, "the wheel leaks a global package `adapters`"
assert "ext_trainer" in os.environ["nnUNet_extTrainer"], "nnU-Net would not find the trainers"  # noqa: SIM112
assert "site-packages" in sdi_plugin.__file__, sdi_plugin.__file__
assert pathlib.Path(sdi_plugin.__file__).with_name("py.typed").is_file(), "type checkers would ignore the wheel's types"
(bill,) = (file for file in metadata.files("sdi-plugin") or () if file.match("*.dist-info/sboms/sdi-plugin.cdx.json"))
listed = json.loads(bill.read_text())
assert listed["metadata"]["component"]["version"] == sdi_plugin.__version__
assert "torch" in [each["name"] for each in listed["components"] if each["scope"] == "required"], "PEP 770's bill"
model = smp.create_model("unetv2", encoder_name="tu-pvt_v2_b0", encoder_weights=None, classes=2).eval()
with torch.no_grad():
    assert model(torch.zeros(1, 3, 97, 65)).shape == (1, 2, 97, 65)
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder, "run")
    command = [sys.executable, "-m", "sdi_plugin", "demo", "--size", "32", "--epochs", "1", "--out", str(out)]
    subprocess.run(command, check=True)
    assert json.loads((out / "metrics.json").read_text())["images"] == 64
    assert smp.from_pretrained(out / "model") is not None
print("smoke test passed")
