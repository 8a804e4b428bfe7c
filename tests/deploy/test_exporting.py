"""`export`: graphs that agree with torch on images of any size, and what is said where they cannot."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sdi_plugin import UNetV2, checkpoint, load
from sdi_plugin.checkpoint import Card
from sdi_plugin.cli import main
from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import Exported, ExportError, Loaded, Predictor, export, exporting, graph, runtimes
from sdi_plugin.deploy.graph_backend import GraphBackend
from tests import official
from tests.deploy.networks import CARD, Small, small

IMAGE = lesion_image((4,), 96)[0].crop((0, 0, 96, 70))


@pytest.mark.parametrize("size", [(32, 32), (40, 30), (97, 130)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_an_onnx_file_takes_pixels_of_any_size(dynamic, size, batch):
    session = onnxruntime.InferenceSession(dynamic / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = torch.rand(batch, 3, *size) * 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (CARD.mean, CARD.std))
    expected = small()((pixels - mean) / std)
    probabilities, logits = session.run(["probabilities", "logits"], {"images": pixels.numpy()})
    assert expected.std() > 0.03
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.abs().max())  # pyright: ignore
    np.testing.assert_allclose(probabilities, expected.sigmoid(), atol=1e-5)  # pyright: ignore


@pytest.mark.slow
def test_the_program_of_a_plain_vit_takes_any_size():
    network = UNetV2("test_vit", channels=4).eval()  # pads the images to whole patches, and crops the logits
    program = graph.trace(graph.Graph(Loaded(network, CARD, Path(__file__)), None, None, True), 3).module()
    for size in [(96, 96), (97, 130)]:
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(images)[0], network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"size": (64, 96)}, {"flips": True}], ids=str)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_predictions_are_those_of_the_checkpoint(dynamic, options, runtime):
    expected = Predictor(small(), device="cpu", **options)(IMAGE)
    predictor = Predictor(dynamic, runtime=runtime, threads=1, **options)
    np.testing.assert_allclose(predictor(IMAGE).probabilities, expected.probabilities, atol=1e-5)
    assert predictor.labels == CARD.labels


def test_the_sidecar_says_how_to_use_the_graph(dynamic):
    said = json.loads((dynamic / "model.json").read_text())
    assert sorted(file.name for file in dynamic.iterdir()) == ["model.json", "model.onnx"]
    assert said["inputs"][0]["shape"] == ["batch", 3, "height", "width"]
    assert [each["name"] for each in said["outputs"]] == ["probabilities", "logits"]
    assert said["card"]["labels"] == ["background", "polyp"]
    assert said["verified"]["relative_error"] < said["verified"]["bound"]


@pytest.mark.parametrize(
    ("size", "raw"), [((48, 64), False), ((48, 64), True), (None, True)], ids=["whole", "raw", "raw, any size"]
)
def test_a_program_of_torch_export_gives_the_same_predictions(tmp_path, size, raw):
    model = small(classes=2)
    exported = export(model, tmp_path / "out", format="pt2", size=size, raw=raw)
    assert exported.error < 1e-5
    prediction = Predictor(exported.file)(IMAGE)
    expected = Predictor(model, device="cpu", size=size)(IMAGE)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)
    if size:
        with pytest.raises(ValueError, match='export the graph with size="dynamic"'):
            Predictor(exported.file, tile=64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["core", "smp", "mmseg", "nnunet"])
def test_checkpoints_of_every_framework_are_exported(tmp_path, kind):
    torch.save(official.state("pvt_v2_b0", classes=2, channels=8), tmp_path / "official.pth")
    checkpoint = tmp_path / {"core": "x.safetensors", "smp": "x", "mmseg": "x.pth", "nnunet": "x.pth"}[kind]
    assert main(["convert", str(tmp_path / "official.pth"), str(checkpoint), "--to", kind]) == 0
    exported = export(checkpoint, tmp_path / "out", size=(64, 96))
    np.testing.assert_allclose(
        Predictor(exported.file)(IMAGE).probabilities,
        Predictor(checkpoint, size=(64, 96), device="cpu")(IMAGE).probabilities,
        atol=1e-5,
    )


def test_images_with_their_own_statistics_are_normalised_outside(tmp_path):
    model = small(Card(per_image=True))
    prediction = Predictor(export(model, tmp_path / "out", format="pt2", size=(48, 64)).file)(IMAGE)
    expected = Predictor(model, device="cpu", size=(48, 64))(IMAGE)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)


def test_a_graph_that_differs_from_torch_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "shrink", lambda images, size: F.interpolate(images, size))
    with pytest.raises(ExportError, match="at most 0.0001 of the largest"):
        export(small(), tmp_path / "out", format="pt2", size=(48, 64))
    assert not (tmp_path / "out").exists()


def test_a_runtime_that_cannot_run_the_graph_is_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runtimes, "installed", lambda kind: ["torch", "openvino"])
    exported = export(small(), tmp_path / "out", format="pt2", size=(48, 64))
    assert set(exported.runtimes) == {"torch"}
    assert "expected a graph for openvino, got one for torch" in exported.refused["openvino"]
    assert set(json.loads(exported.file.read_text())["runtimes"]) == {"torch"}
    monkeypatch.setattr(exporting, "export", lambda *given, **options: exported)
    assert main(["export", "x.safetensors", "--out", str(tmp_path / "out")]) == 0
    assert "; openvino cannot run it (" in capsys.readouterr().out


def test_a_graph_that_no_runtime_runs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "_torch", lambda graph, threads: lambda images: [].pop())
    with pytest.raises(ExportError, match="a runtime that runs the graph; torch cannot: pop from empty list"):
        export(small(), tmp_path / "out", format="pt2", size=(48, 64))
    assert not (tmp_path / "out").exists()


def test_a_network_for_one_size_is_exported_for_it(tmp_path):
    torch.manual_seed(0)
    UNetV2("levit_128s", channels=8, image_size=(64, 96)).save(tmp_path / "levit.safetensors")
    model = load(tmp_path / "levit.safetensors")
    with pytest.raises(ValueError, match=r"expected size \(64, 96\) or None, which this encoder was built for"):
        export(model, tmp_path / "out", size="dynamic")
    prediction = Predictor(export(model, tmp_path / "out", format="pt2").file)(IMAGE)
    np.testing.assert_allclose(prediction.probabilities, Predictor(model)(IMAGE).probabilities, atol=1e-5)


def test_a_network_that_torch_cannot_export_is_explained(tmp_path):
    class Deciding(Small):
        def forward(self, x):
            return super().forward(x) * (1 if x.sum() > 0 else 2)

    with pytest.raises(ExportError, match=r"torch cannot export this network: .+\. Pass a size"):
        export(Loaded(Deciding(1).eval(), CARD, Path(__file__)), tmp_path / "out", format="pt2")


def test_the_cause_is_named_not_what_torch_says_of_it(tmp_path, monkeypatch):
    def fail(*given):
        raise RuntimeError("this is step 3/3") from ValueError("only 4D queries\nnow")

    monkeypatch.setattr(exporting, "trace", fail)
    with pytest.raises(ExportError, match=r"torch cannot export this network: only 4D queries\.$"):
        export(small(), tmp_path / "out", format="pt2", size=(48, 64))


def test_arguments_and_missing_packages_are_explained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a format of onnx, openvino, pt2"):
        export(small(), tmp_path, format="tflite")
    sizes: tuple[Any, ...] = ("large", 8, (8,), (8, 0), (8.0, 8.0), True)
    for size in sizes:
        with pytest.raises(ValueError, match='"dynamic" or None'):
            export(small(), tmp_path, size=size)
    network: Any = small().network
    with pytest.raises(ValueError, match="a checkpoint's path, or what sdi_plugin.load returned, got Small"):
        export(network, tmp_path)
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"precision": "fp8"}, "a precision of fp32, fp16, bf16, int8"),
        ({"precision": "bf16", "format": "pt2"}, "for pt2 fp32"),
        ({"precision": "int8"}, "a folder of images, for int8"),
        ({"calibrate": tmp_path}, "a folder of images, for int8"),
        ({"calibrate": 0}, "a folder of images, for int8"),
    )
    for options, said in refused:
        with pytest.raises(ValueError, match=said):
            export(small(), tmp_path, **options)
    monkeypatch.setattr(exporting.frameworks, "version", lambda name: None)
    for format, extra in (("onnx", "deploy"), ("openvino", "openvino")):
        with pytest.raises(ImportError, match=rf"sdi-plugin\[{extra}\]"):
            export(small(), tmp_path, format=format)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_runner_needs_no_torch(dynamic, tmp_path, backend):
    IMAGE.save(tmp_path / "a.png")
    arguments = [str(dynamic / "model.json"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    arguments += ["--backend", backend]
    without = "import sys; sys.modules['torch'] = None; from sdi_plugin.deploy.run import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", without, *arguments], check=True)
    with Image.open(tmp_path / "out" / "masks" / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), Predictor(small(), device="cpu")(IMAGE).mask)


def test_the_runners_errors(dynamic, tmp_path, capsys):
    from sdi_plugin.deploy.run import main as run

    (tmp_path / "bad.png").write_bytes(b"x")
    assert run([str(dynamic / "model.json"), str(tmp_path / "bad.png"), "--out", str(tmp_path / "out")]) == 1
    assert "not an image" in capsys.readouterr().err
    assert run([str(tmp_path / "none.json"), "x.png", "--out", str(tmp_path / "out")]) == 2


def test_the_predict_command_takes_the_exported_folder(dynamic, tmp_path):
    IMAGE.save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["predict", str(dynamic), str(tmp_path / "a.png"), "--out", str(out), "--backend", "onnxruntime"]) == 0
    assert (out / "masks" / "a.png").is_file()


def test_the_export_command_says_what_it_wrote_and_why_it_did_not(tmp_path, monkeypatch, capsys):
    given = {}

    def stand_in(model, out, **options):
        given.update(options)
        if options["raw"]:
            raise ExportError("export: torch cannot")
        return Exported(out / "model.json", 2e-7, "the normalisation")

    monkeypatch.setattr(exporting, "export", stand_in)
    command = ["export", "x.safetensors", "--out", str(tmp_path / "out"), "--format", "pt2", "--size"]
    assert main([*command, "48x64"]) == 0
    assert given == {"format": "pt2", "precision": "fp32", "size": (48, 64), "raw": False, "calibrate": None}
    assert "at most 2.0e-07 of the largest; assumed: the normalisation" in capsys.readouterr().out
    assert main([*command, "dynamic", "--raw"]) == 2
    assert given["size"] == "dynamic"
    assert "torch cannot" in capsys.readouterr().err


@pytest.mark.slow
def test_unetv2_agrees_in_onnx_runtime_at_every_size(tmp_path, capsys):
    torch.manual_seed(0)
    model = UNetV2("pvt_v2_b0", classes=2, init="unit")
    checkpoint.save(tmp_path / "x.safetensors", model.state_dict(), {"card": CARD.to_json()})
    assert main(["export", str(tmp_path / "x.safetensors"), "--out", str(tmp_path / "out"), "--raw"]) == 0
    assert "logits differ from torch's by at most" in capsys.readouterr().out
    backend = GraphBackend(tmp_path / "out" / "model.json")
    for size in [(96, 96), (97, 130), (352, 352), (30, 40), (1080, 1920)]:
        for batch in (1, 3) if max(size) < 1000 else (1,):
            images = torch.randn(batch, 3, *size)
            with torch.inference_mode():
                expected = model.eval()(images)
            difference = np.abs(backend(images.numpy()) - expected.numpy())
            assert difference.max() < 1e-4 * expected.abs().max()
