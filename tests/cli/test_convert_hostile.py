"""`sdi-plugin convert` of files from strangers: one line, exit code 2, and nothing touched elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdi_plugin import checkpoint
from sdi_plugin.cli import main
from sdi_plugin.cli.output import report
from tests import hostile, official

# torch's, about kinds of tensors that it means to drop
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
STEM = "encoder.backbone.patch_embed1.proj.weight"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return official.state("pvt_v2_b0", classes=2, channels=16)


def _convert(source: Path, target: Path, to: str = "core", *options: str) -> int:
    return main(["convert", str(source), str(target), "--to", to, *options])


_HEADS = {f"seg_outs.{i}.weight": torch.ones(1 << 11, 16, 1, 1) for i in range(4)}
FILES: dict[str, tuple[Any, str]] = {
    "meta": (lambda w: w | {STEM: w[STEM].to("meta")}, "without data"),
    "nested": (lambda w: w | {STEM: hostile.TENSOR_TRICKS["nested"]()}, "a nested tensor"),
    "strides of 0": (lambda w: w | {"seg_outs.3.weight": torch.ones(1).expand(1 << 24, 16, 1, 1)}, "bytes of tensors"),
    "no network has these heads": (lambda w: w | {"decoder.heads.7.weight": torch.ones(1)}, "deep_supervision=5"),
    "two names": (lambda w: w | {STEM.removeprefix("encoder."): w[STEM]}, "one name for each parameter"),
    "numpy's flags": (lambda w: w | {"x": hostile.NUMPY_TRICKS["fields of a short state"]}, "numpy data"),
    "more classes than biases": (lambda w: w | _HEADS, "Different shapes"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_checkpoint_is_reported_in_one_line(tmp_path, weights, capsys, kind):
    make, said = FILES[kind]
    (tmp_path / "in.pth").write_bytes(hostile.saved(make(weights)))
    assert _convert(tmp_path / "in.pth", tmp_path / "out.safetensors") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"sdi-plugin: error: {tmp_path / 'in.pth'}: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert os.listdir(tmp_path) == ["in.pth"]


@pytest.mark.parametrize("trick", hostile.HARMLESS_TENSORS)
def test_hooks_and_attributes_change_nothing(tmp_path, weights, trick):
    (tmp_path / "in.pth").write_bytes(hostile.saved(weights | {STEM: hostile.HARMLESS_TENSORS[trick](weights[STEM])}))
    assert _convert(tmp_path / "in.pth", tmp_path / "out.safetensors") == 0
    written = checkpoint.read(tmp_path / "out.safetensors")
    assert torch.equal(written["encoder.model.patch_embed.proj.weight"], weights[STEM])


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize(("name", "to"), [("x.safetensors", "core"), ("x.pth", "mmseg"), ("x.pth", "nnunet")])
def test_a_planted_link_is_not_followed(tmp_path, weights, name, to):
    torch.save(weights, tmp_path / "in.pth")
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / f".{name}.partial").symlink_to(tmp_path / "victim")
    assert _convert(tmp_path / "in.pth", tmp_path / name, to) == 0
    assert (tmp_path / "victim").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == sorted(["in.pth", "victim", name])


def test_a_planted_folder_is_left_as_it_is(tmp_path, weights, capsys):
    torch.save(weights, tmp_path / "in.pth")
    planted = tmp_path / ".out.partial"
    planted.mkdir()
    (planted / "file").write_text("theirs")
    assert _convert(tmp_path / "in.pth", tmp_path / "out", "smp") == 2
    assert "could not be written: File exists" in capsys.readouterr().err
    assert (planted / "file").read_text() == "theirs"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.timeout(60)
def test_a_fifo_is_not_opened(tmp_path, capsys):
    os.mkfifo(tmp_path / "in.pth")
    assert _convert(tmp_path / "in.pth", tmp_path / "out.safetensors") == 2
    assert "got a FIFO" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("stdout", ["closed pipe", "/dev/full"])
def test_the_files_count_although_nobody_reads_the_summary(tmp_path, weights, stdout):
    torch.save(weights, tmp_path / "in.pth")
    arguments = ["convert", str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors"), "--to", "core"]
    code = "import sys; from sdi_plugin.cli import main; sys.exit(main())"
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    if stdout == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert ("done, but stdout cannot be written" in done.stderr) == (stdout == "/dev/full")
    assert checkpoint.identify(checkpoint.read(tmp_path / "out.safetensors")) == "core"


def test_a_report_shows_what_a_terminal_would_obey(capsys):
    report("dropped \x1b]0;title\x07 and ü\nand more")
    assert capsys.readouterr().out == "dropped \\x1b]0;title\\x07 and ü\nand more\n"
