"""docs/encoders.md says what the program measures, for one encoder of each kind."""

import json

import pytest

from benchmarks import encoders
from sdi_plugin.deploy.exporting import BOUNDS

MEASURED = encoders.COLUMNS.index("kept")  # what is before it is exact


def row_of(name: str) -> list[str]:
    (line,) = (line for line in encoders.PAGE.read_text().splitlines() if line.startswith(f"| {name} |"))
    return line.strip("| ").split(" | ")


@pytest.mark.parametrize("name", ["pvt_v2_b0", "tf_efficientnet_lite0", "levit_128s", "vit_tiny_patch16_224"])
def test_the_page_has_the_row_that_is_measured(name):
    found = list(encoders.measure(name))
    written = row_of(name)[: len(found)]
    assert found[:MEASURED] == written[:MEASURED]
    for kept, before in zip(found[MEASURED:], written[MEASURED:], strict=True):
        assert float(kept) == pytest.approx(float(before), abs=1, rel=0.05)
    assert float(found[-1]) < float(found[-2]) / 5


def test_the_page_has_40_encoders_8_of_them_plain():
    page = encoders.PAGE.read_text()
    hierarchical, plain = (part.count("\n| ") - 2 for part in page.split("## ")[1:3])
    assert plain >= 8
    assert hierarchical + plain >= 40


def test_the_page_is_that_of_the_results():
    results = json.loads(encoders.RESULTS.read_text())
    assert encoders.page(results) == encoders.PAGE.read_text()
    exported = [result["onnx"] for result in results.values() if "onnx" in result]
    assert all(found["error"] < BOUNDS["fp32"] for found in exported if found["size"])


@pytest.mark.slow
def test_an_encoder_is_exported_as_the_page_says():
    assert encoders.export("mobilenetv3_small_050")["size"] == "any"


def test_an_encoder_that_is_none_says_why():
    with pytest.raises(ValueError, match="no feature maps of 'coat_lite_tiny'"):
        encoders.main(["coat_lite_tiny"])
