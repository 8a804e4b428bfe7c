"""Files that appear complete or not at all, whatever lies beside them."""

import os
from pathlib import Path

import pytest

from sdi_plugin import atomic


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("exists", [True, False], ids=["of a file", "of nothing"])
def test_a_planted_link_is_not_followed(tmp_path: Path, exists: bool):
    victim = tmp_path / "victim"
    if exists:
        victim.write_bytes(b"theirs")
    (tmp_path / ".out.partial").symlink_to(victim)
    atomic.write(tmp_path / "out", b"ours")
    assert (tmp_path / "out").read_bytes() == b"ours"
    assert not (tmp_path / "out").is_symlink()
    assert victim.exists() == exists
    assert not exists or victim.read_bytes() == b"theirs"
    assert not (tmp_path / ".out.partial").is_symlink()


def test_what_a_kill_left_is_replaced(tmp_path: Path):
    (tmp_path / ".out.partial").write_bytes(b"half of a long file")
    atomic.write(tmp_path / "out", b"ours")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"ours"}
