"""The check of command lines refuses wrong ones: a document's typing error would fail."""

import shlex

import pytest

from tests.docs import commands

WRONG = [
    "nothing at-all",
    "make nothing",
    "make bench NOTHING=1",
    "pip install 'sdi-plugin[nothing]'",
    "sdi-plugin demo --nothing 3",
    "python -m benchmarks.nothing",
    "python -m benchmarks.nnunet --nothing",
    "python examples/own_network.py --nothing 3",
    "nnUNetv2_nothing 4",
    "nnUNetv2_train 4 3d_fullres 0 -nothing",
    "mim train mmseg configs/nothing.py",
    "mim train mmseg configs/unetv2_pvt_isic.py --nothing",
    "mim train mmseg configs/unetv2_pvt_isic.py --cfg-options model.nothing.x=1",
]


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_refused(line, monkeypatch):
    with pytest.raises((AssertionError, KeyError, SystemExit)):
        commands.check(shlex.split(line), monkeypatch)
