"""The counts of launches, bytes and FLOPs: of operators whose numbers are known, and of what Inductor schedules."""

import os
import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from benchmarks.environment import ROOT
from benchmarks.gpu_count import ATTENTIONS, DTYPES, PAGE, STAGES, Count, count, eager, ours
from benchmarks.gpu_record import recorded

FLOAT = torch.float32


def test_a_convolution_and_its_bias_are_two_launches():
    x, weight, bias = (torch.empty(*shape, device="meta") for shape in ((2, 4, 6, 5), (8, 4, 3, 3), (8,)))
    with recorded() as launches:
        out = F.conv2d(x, weight, bias, padding=1)
    assert [launch.name for launch in launches] == ["convolution", "bias"]
    assert launches[0].bytes == 4 * (x.numel() + weight.numel() + out.numel())
    assert launches[0].flops == 2 * out.numel() * 4 * 9


def test_a_view_is_no_launch_and_a_product_is_one():
    x = torch.empty(3, 4, device="meta")
    with recorded() as launches:
        x.T.mul(2)
    assert count(launches) == Count(1, 2 * 4 * 12, 12)


def test_eager_launches_what_the_paper_writes():
    """Of 16 terms, each has a convolution and a bias, 12 are resized, and 12 are multiplied to another."""
    counted = eager(STAGES["2-D, 352, N 1"], FLOAT, backward=False)
    assert counted.launches == 16 + 16 + 12 + 12
    pixels = sum((88 >> level) ** 2 for level in range(4))
    assert abs(counted.flops / (4 * 2 * 9 * 32 * 32 * pixels) - 1) < 0.01


def test_ours_launches_and_moves_less_than_eager_and_computes_the_terms_once_more():
    stage = STAGES["2-D, 352, N 4"]
    for backward, products in ((False, 1), (True, 4 / 3)):
        found, plain = (contender(stage, FLOAT, backward) for contender in (ours, eager))
        assert found.launches < plain.launches / 10
        assert found.bytes < plain.bytes * 0.6
        assert abs(found.flops / plain.flops / products - 1) < 0.01


def test_the_attention_launches_and_moves_a_small_part_of_what_eager_does():
    for name, backward, launches, part in (
        ("2-D, 352, N 4", False, 4, 0.4),
        ("2-D, 352, N 4", True, 10, 0.25),
        ("3-D, 64^3, five levels", True, 10, 0.3),
    ):
        found, plain = (contender(ATTENTIONS[name], FLOAT, backward) for contender in (ours, eager))
        assert found.launches == launches
        assert found.bytes < plain.bytes * part


def test_inductor_fuses_biases_and_products_and_keeps_the_convolutions():
    """In a process of its own: it pretends that there is a GPU."""
    code = """
import torch
from benchmarks.gpu_count import Stage, compiled, eager
stage = Stage(((12, 12), (6, 6)), 1)
for backward in (False, True):
    counts = [contender(stage, torch.float32, backward) for contender in (compiled, eager)]
    print(*(number for count in counts for number in count))
"""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    forward, both = ([int(number) for number in line.split()] for line in result.stdout.splitlines())
    assert forward[0] == 4 + 2 + 2  # convolutions; resized maps; biases and product of each target
    assert forward[0] < forward[3]
    for _, moved, flops, _, eager_moved, eager_flops in (forward, both):
        assert moved < eager_moved
        assert abs(flops / eager_flops - 1) < 0.05


@pytest.mark.parametrize(("part", "stages"), [("stages", STAGES), ("attention", ATTENTIONS)])
def test_the_page_has_our_counts(part, stages):
    """Of all cases; eager's and Inductor's take minutes."""
    table = PAGE.read_text().split(f"<!-- counted: {part} -->")[1].split("<!-- end -->")[0]
    header, _, *found = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
    at = [i for i, title in enumerate(header) if title.endswith(", ours")]
    expected = {}
    for name, stage in stages.items():
        for (dtype_name, dtype), backward in product(DTYPES.items(), (False, True)):
            counted = ours(stage, dtype, backward)
            figures = [f"{counted.launches}", f"{counted.bytes / 1e6:.0f}", f"{counted.flops / 1e9:.2f}"]
            expected[f"{name}, {dtype_name}, forward{' + backward' if backward else ''}"] = figures
    assert {row[0]: [row[i] for i in at] for row in found} == expected
