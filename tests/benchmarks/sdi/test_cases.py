"""The cases' names, and the inputs that all contenders get."""

import pytest
import torch

from benchmarks.sdi import cases
from benchmarks.sdi.cases import Case


def test_a_name_says_sizes_levels_batch_and_dtype():
    case = Case.parse("2d-stage-352-b4")
    assert (case.batch, case.sizes) == (4, [(88, 88), (44, 44), (22, 22), (11, 11)])
    assert Case.parse("3d-stage-64-l5").sizes == [(64,) * 3, (32,) * 3, (16,) * 3, (8,) * 3, (4,) * 3]
    assert Case.parse("2d-level2-64-l3-bf16").targets == [1]
    assert Case.parse("2d-level2-64-l3-bf16").dtype == torch.bfloat16


def test_a_step_of_nnunet_has_the_stages_and_the_batch_of_its_plan():
    case = Case.parse("nnunet-step-2d-256")
    assert (case.kind, case.levels, case.batch, case.image("cpu", channels=1).shape) == ("step", 6, 4, (4, 1, 256, 256))
    case = Case.parse("nnunet-step-3d-64")
    assert (case.kind, case.levels, case.batch, case.is_network) == ("step", 5, 2, True)


@pytest.mark.parametrize(
    "name",
    [
        *("", "2d-stage", "4d-stage-64", "2d-level5-352", "2d-level0-352", "3d-network-64", "2d-stage-352-b0"),
        *("2d-64", "nnunet-step-2d-stage-64", "2d-decoder-64-l5", "2d-decoder-64-bf16"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"for example 2d-stage-352-b1 or 3d-stage-64-l5"):
        Case.parse(name)


def test_every_listed_case_exists_once():
    names = [Case.parse(name).name for name in cases.FULL]
    assert len(set(names)) == len(names)
    assert {*cases.QUICK, *cases.DECODER} <= set(names)


def test_the_plotted_cases_are_one_group_and_the_others_are_alone():
    groups = dict(cases.groups(["2d-stage-512-b1", "2d-stage-352-b1", "2d-stage-512-l2-b1", "2d-stage-352-b1"]))
    assert {group: [case.name for case in members] for group, members in groups.items()} == {
        "scaling": ["2d-stage-512-b1", "2d-stage-512-l2-b1"],
        "2d-stage-352-b1": ["2d-stage-352-b1"],
    }


def test_inputs_are_the_same_contiguous_leaves_on_every_call():
    case = Case.parse("3d-level1-8-l2-b2")
    for first, second in zip(case.inputs(torch.float32, "cpu"), case.inputs(torch.float64, "cpu"), strict=True):
        for a, b in zip(first, second, strict=True):
            assert a.is_leaf
            assert a.requires_grad
            assert a.is_contiguous()
            assert torch.equal(a.double(), b)


def test_product_flops_are_those_of_the_lower_resolution():
    mixing = 2 * 32 * 32 * 9
    expected = mixing * sum(min(a, b) for a in (64, 16) for b in (64, 16))
    assert Case.parse("2d-stage-32-l2").product_flops() == expected
    sizes, widths = (64, 16, 4, 1), (64, 128, 320, 512)
    reductions = 2 * 32 * sum(n * c for n, c in zip(sizes, widths, strict=True))
    assert Case.parse("2d-attention-32").product_flops() == reductions
    raised = 2 * 32 * 32 * 16 * sum(sizes[1:])
    stage = Case.parse("2d-stage-32").product_flops() or 0
    assert Case.parse("2d-decoder-32").product_flops() == reductions + stage + raised
    assert Case.parse("2d-network-32").product_flops() is None
