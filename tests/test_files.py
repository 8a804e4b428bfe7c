"""Files and folders that appear whole or not at all, whatever lies beside them."""

import os
from pathlib import Path

import pytest

from sdi_plugin import files


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("exists", [True, False], ids=["of a file", "of nothing"])
def test_a_planted_link_is_not_followed(tmp_path: Path, exists: bool):
    victim = tmp_path / "victim"
    if exists:
        victim.write_bytes(b"theirs")
    (tmp_path / ".out.partial").symlink_to(victim)
    files.write(tmp_path / "out", b"ours")
    assert (tmp_path / "out").read_bytes() == b"ours"
    assert not (tmp_path / "out").is_symlink()
    assert victim.exists() == exists
    assert not exists or victim.read_bytes() == b"theirs"
    assert not (tmp_path / ".out.partial").is_symlink()


def test_what_a_kill_left_is_replaced(tmp_path: Path):
    (tmp_path / ".out.partial").write_bytes(b"half of a long file")
    files.write(tmp_path / "out", b"ours")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"ours"}


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_appears_whole(tmp_path: Path):
    with files.folder(tmp_path / "deep" / "out") as partial:
        (partial / "in").mkdir()
        (partial / "in" / "a").write_text("a")
        assert not (tmp_path / "deep" / "out").exists()
    assert contents(tmp_path) == {"deep/out/in/a": "a"}


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()], ids=["disk-full", "ctrl-c"])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException):
    def write() -> None:
        with files.folder(tmp_path / "out") as partial:
            (partial / "a").write_text("a")
            raise error

    with pytest.raises(type(error)):
        write()
    assert contents(tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_the_folder_that_a_kill_left_is_replaced(tmp_path: Path):
    killed = files.folder(tmp_path / "out")
    (killed.__enter__() / "half").write_text("half")
    left = sorted(tmp_path.rglob("*"))
    with files.folder(tmp_path / "out") as partial:
        (partial / "a").write_text("a")
    assert len(left) == 3  # the folder, its mark and half of the content
    assert contents(tmp_path) == {"out/a": "a"}


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_others_put_there_is_left_as_it_is(tmp_path: Path, kind: str):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("theirs")
    planted = tmp_path / ".out.partial"
    if kind == "link":
        planted.symlink_to(tmp_path / "theirs")
    elif kind == "folder":
        (tmp_path / "theirs").rename(planted)
    else:
        planted.write_text("theirs")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError), files.folder(tmp_path / "out"):
        pytest.fail("there is no folder to write into")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("into", [False, True], ids=["new", "into"])
def test_an_existing_folder_keeps_its_files(tmp_path: Path, into: bool):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_text("old")
    (out / "b").write_text("theirs")

    def write() -> None:
        with files.folder(out, into=into) as partial:
            (partial / "a").write_text("new")

    if into:
        write()
    else:
        with pytest.raises(OSError, match="not empty"):
            write()
    assert contents(tmp_path) == {"out/a": "new" if into else "old", "out/b": "theirs"}
