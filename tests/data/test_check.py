"""What is wrong with a source is reported completely, and no failed or killed run leaves anything behind."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from sdi_plugin.data import DataError, WriteError, output, prepare


def picture(mode="RGB", size=(16, 16), kind="PNG"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 2, (size[1], size[0]), dtype=np.uint8) * 255
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def plain_source(folder, ids=("a", "b", "c")):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for id_ in ids:
        (folder / "images" / f"{id_}.jpg").write_bytes(picture(kind="JPEG"))
        (folder / "masks" / f"{id_}.png").write_bytes(picture("L"))
    return folder


def spoil(source):
    """A source with one good pair, `a`, and every kind of bad one."""
    (source / "images" / "no_mask.png").write_bytes(picture())
    (source / "masks" / "no_image.png").write_bytes(picture("L"))
    (source / "masks" / "b.png").write_bytes(picture("L", (15, 16)))
    whole = picture(kind="JPEG", size=(64, 64))
    (source / "images" / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "masks" / "c.png").write_bytes(picture("L", (64, 64)))
    (source / "images" / "d.png").write_bytes(picture())
    (source / "masks" / "d.png").write_bytes(b"not an image")
    (source / "splits").mkdir()
    (source / "splits" / "train.txt").write_text("a\nb\nghost\n")
    return source


REPORT = {
    "no_mask: missing mask (looked for masks/no_mask or masks/no_mask_segmentation)",
    "no_image: mask without image (in/masks/no_image.png)",
    "b: size differs: image 16 x 16, mask 15 x 16",
    "c: unreadable image",
    "d: unreadable mask",
    "ghost: in split train, but there is no such image",
}


def test_all_problems_are_reported_before_anything_is_written(tmp_path):
    source = spoil(plain_source(tmp_path / "in"))
    with pytest.raises(DataError, match=r"6 problem\(s\) .* nothing was written.*first is no_mask: ") as caught:
        prepare("etis", source, tmp_path / "out")
    lines = caught.value.problems
    assert len(lines) == 6
    assert {problem for problem in REPORT if any(line.startswith(problem) for line in lines)} == REPORT
    assert os.listdir(tmp_path) == ["in"]


def test_skip_bad_reports_and_continues(tmp_path):
    source = spoil(plain_source(tmp_path / "in"))
    written = prepare("etis", source, tmp_path / "out", skip_bad=True)
    assert len(written.left_out) == 6
    assert (written.images, written.splits) == (1, {"train": 1})
    assert os.listdir(tmp_path / "out" / "images") == ["a.jpg"]
    assert os.listdir(tmp_path / "out" / "masks") == ["a.png"]
    assert (tmp_path / "out" / "splits" / "train.txt").read_text() == "a\n"


def test_skip_bad_with_nothing_good_is_an_error(tmp_path):
    source = plain_source(tmp_path / "in", ["a"])
    (source / "masks" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no good pair"):
        prepare("etis", source, tmp_path / "out", skip_bad=True)


def test_two_images_for_one_id_are_an_error(tmp_path):
    source = plain_source(tmp_path / "in")
    (source / "images" / "a.png").write_bytes(picture())
    with pytest.raises(DataError, match=r"two for 'a': in/images/a\.jpg and in/images/a\.png"):
        prepare("etis", source, tmp_path / "out", skip_bad=True)


def test_source_without_the_data_set_lists_what_was_looked_for(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "PH2Dataset.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError) as caught:
        prepare("ph2", tmp_path / "in", tmp_path / "out")
    assert "{imd}/{imd}_Dermoscopic_Image/{imd}" in str(caught.value)
    assert "images/{id} with masks/{id}" in str(caught.value)
    assert "Unpack these first: in/PH2Dataset.rar" in str(caught.value)


@pytest.mark.parametrize("suffix", ["rar", "7z", "tar.gz"])
def test_other_archives_must_be_unpacked_first(suffix, tmp_path):
    (tmp_path / f"source.{suffix}").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="Unpack it first"):
        prepare("ph2", tmp_path / f"source.{suffix}", tmp_path / "out")


def test_missing_source_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found nothing there"):
        prepare("ph2", tmp_path / "nowhere", tmp_path / "out")


def zip_source(path):
    with zipfile.ZipFile(path, "w") as archive:
        for id_ in "ab":
            archive.writestr(f"images/{id_}.jpg", picture(kind="JPEG"))
            archive.writestr(f"masks/{id_}.png", picture("L"))
    return path


def truncated(content):
    return content[:-40]


def of_a_later_version(content):
    entry = content.index(b"PK\x01\x02")  # of the directory; the version that it needs follows
    return content[: entry + 6] + b"\xc2\x00" + content[entry + 8 :]


@pytest.mark.parametrize("damage", [truncated, of_a_later_version], ids=lambda damage: damage.__name__)
def test_unreadable_zip_is_an_error(tmp_path, damage):
    source = zip_source(tmp_path / "in.zip")
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(DataError, match="not a readable zip archive"):
        prepare("etis", source, tmp_path / "out")


def test_damaged_member_is_reported_by_name(tmp_path):
    source = zip_source(tmp_path / "in.zip")
    content = bytearray(source.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 0xFF  # in a's mask
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"1 problem\(s\) .*first is a: unreadable file: Bad CRC-32"):
        prepare("etis", source, tmp_path / "out")


@pytest.mark.parametrize("prefix", ["../../", "/", "a/../../../"])
def test_zip_members_never_choose_a_path(prefix, tmp_path):
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(f"{prefix}Kvasir-SEG/images/escaped.png", picture())
        archive.writestr(f"{prefix}Kvasir-SEG/masks/escaped.png", picture("L"))
    out = tmp_path / "deep" / "er" / "out"
    prepare("kvasir", source, out)
    assert set(tmp_path.rglob("escaped*")) == {out / "images" / "escaped.png", out / "masks" / "escaped.png"}


def test_ids_with_path_separators_are_refused(tmp_path):
    source = plain_source(tmp_path / "in", ["a", "b\\c"])
    with pytest.raises(DataError, match="plain file names as ids"):
        prepare("etis", source, tmp_path / "out", skip_bad=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"name": "nothing"}, "expected one of kvasir, .*, got 'nothing'", id="unknown-name"),
        pytest.param({"size": 0}, "size of at least 1, got 0", id="size-0"),
        pytest.param({"layout": "coco"}, "expected a layout of plain, mmseg, nnunet, got 'coco'", id="layout"),
        pytest.param({"layout": "nnunet"}, "DatasetNNN_Name for nnU-Net, got 'out'", id="nnunet-folder-name"),
        pytest.param({"splits": "pranet"}, "the layout nnunet only", id="splits-with-plain"),
    ],
)
def test_wrong_arguments_are_errors(arguments, message, tmp_path):
    source = plain_source(tmp_path / "in")
    with pytest.raises(DataError, match=message):
        prepare(**({"name": "etis", "source": source, "out": tmp_path / "out"} | arguments))
    assert not (tmp_path / "out").exists()


def test_existing_out_is_left_alone(tmp_path):
    source = plain_source(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists"):
        prepare("etis", source, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(RuntimeError("bug"), RuntimeError), (OSError(28, "No space left"), WriteError), (KeyboardInterrupt(),) * 2],
    ids=["bug", "disk-full", "ctrl-c"],
)
def test_failing_writer_leaves_nothing(failure, raised, tmp_path, monkeypatch):
    source = plain_source(tmp_path / "in")
    write_mask = output.write_mask

    def failing(content, path, *rest):
        if path.stem == "b":
            raise failure
        write_mask(content, path, *rest)

    monkeypatch.setattr(output, "write_mask", failing)
    with pytest.raises(raised if isinstance(raised, type) else type(raised)):
        prepare("etis", source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


SLOW_RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have it ignored
from sdi_plugin.data import output, prepare
output.write_mask = lambda *_: time.sleep(1)
try:
    prepare("etis", sys.argv[1], sys.argv[2])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_stopped_run_leaves_no_out_and_the_next_one_succeeds(number, tmp_path):
    source = plain_source(tmp_path / "in", [f"{index:03}" for index in range(400)])
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    run = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(source), str(out)])
    try:
        deadline = time.monotonic() + 120
        while not (partial / "masks").is_dir():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(number)
        code = run.wait(30)  # the whole queue would take 50 s with the 8 threads that there are at most
    finally:
        run.kill()
        run.wait()
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert not out.exists()
    assert partial.exists() == (number == signal.SIGKILL)
    prepare("etis", source, out)
    assert len(os.listdir(out / "masks")) == 400
    assert not partial.exists()
