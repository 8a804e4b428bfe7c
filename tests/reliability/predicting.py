"""`python -m tests.reliability.predicting FOLDER`: 1,000 images of all kinds, 20 of them broken, and ten SIGKILLs.

`sdi-plugin predict` is killed at random moments and started again until it comes to its end. Every good image is then
done once, and all results are those of an unbroken run.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.ExifTags import Base

from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.checkpoint import Card
from sdi_plugin.cli.demo.images import lesion_image

Write = Callable[[Image.Image, Path], object]


def _rotated(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    image.save(path, exif=exif)


def _deep(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


KINDS: tuple[tuple[str, Write], ...] = (
    (".png", lambda image, path: image.save(path)),
    (".png", lambda image, path: image.convert("L").save(path)),
    (".png", lambda image, path: image.convert("RGBA").save(path)),
    (".png", lambda image, path: image.convert("P").save(path)),
    (".png", _deep),
    (".jpg", lambda image, path: image.save(path)),
    (".jpg", lambda image, path: image.convert("CMYK").save(path)),
    (".jpg", _rotated),
    (".tif", lambda image, path: image.save(path)),
    (".tif", _deep),
    (".tif", lambda image, path: image.save(path, save_all=True, append_images=[image.rotate(90, expand=True)])),
    (".bmp", lambda image, path: image.save(path)),
    (".webp", lambda image, path: image.save(path)),
)


def _half(image: Image.Image, path: Path) -> None:
    image.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _float(image: Image.Image, path: Path) -> None:
    image.convert("L").convert("F").save(path)


BROKEN: tuple[tuple[str, Write], ...] = (
    (".png", _half),
    (".jpg", _half),
    (".png", lambda image, path: path.write_bytes(b"")),
    (".jpg", lambda image, path: path.write_text("no image")),
    (".tif", _float),
)


def write_images(folder: Path, count: int, broken: int) -> None:
    folder.mkdir(parents=True)
    generator, base = random.Random(0), [lesion_image((number,), 64)[0] for number in range(20)]
    wrong = set(generator.sample(range(count), broken))
    for number in range(count):
        kinds = BROKEN if number in wrong else KINDS
        suffix, write = kinds[number % len(kinds)]
        size = generator.randrange(24, 80), generator.randrange(24, 80)
        write(base[number % len(base)].resize(size), folder / f"case{number:04}{suffix}")


def write_network(file: Path) -> None:
    torch.manual_seed(0)
    card = Card(mean=(127.5,) * 3, std=(60.0,) * 3, size=(32, 32))
    checkpoint.save(file, UNetV2("pvt_v2_b0", channels=4).state_dict(), {"card": card.to_json()})


def run(folder: Path, count: int, broken: int, kills: int) -> dict[str, float]:
    """Figures of a run that was killed; AssertionError where it differs from an unbroken one."""
    write_images(folder / "in", count, broken)
    write_network(folder / "model.safetensors")
    begun = time.monotonic()
    process = start(folder, "unbroken")
    _, printed = process.communicate()
    seconds = time.monotonic() - begun
    assert process.returncode == 1, printed
    assert printed.count("skipped ") == broken, printed
    generator, out, kept = random.Random(0), folder / "out", {}
    lost = 0
    for left in range(kills, 0, -1):
        records = written(out)
        kept |= records
        until = len(records) + generator.randrange(1 + 2 * (count - broken - len(records)) // (left + 1))
        process = start(folder, "out")
        while process.poll() is None and len(written(out)) < until:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.1))
        assert process.poll() is None, "it ended before it was killed: raise --images"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        lost += len(list(out.rglob(".*.partial")))
    before = kept | written(out)
    process = start(folder, "out")
    printed = "".join(process.communicate())
    assert process.returncode == 1, printed
    done = count - broken
    assert printed.startswith(f"{done - len(before)} files"), printed
    assert f"{len(before)} finished earlier, {broken} that cannot be used" in printed, printed
    after = written(out)
    assert len(after) == done
    assert before.items() <= after.items(), "a finished file was predicted again"
    assert hashes(out) == hashes(folder / "unbroken"), "the results differ from those of an unbroken run"
    return {"images": count, "broken": broken, "kills": kills, "done": done, "half_written": lost, "seconds": seconds}


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "sdi_plugin", "predict", str(folder / "model.safetensors")]
    options = ["--overlays", "--contours", "--threads", "1", "--out", str(folder / out)]
    return subprocess.Popen(
        [*command, str(folder / "in"), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def written(out: Path) -> dict[str, int]:
    """When each finished file was recorded."""
    return {file.name: file.stat().st_mtime_ns for file in (out / ".finished").glob("*.json")}


def hashes(out: Path) -> dict[str, str]:
    """All results but the records, which are hidden; a partial file that a kill left would be among them."""
    found = [file for file in out.rglob("*") if file.is_file() and ".finished" not in file.parts]
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one, to work in")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    print(run(arguments.folder, arguments.images, arguments.broken, arguments.kills))


if __name__ == "__main__":
    main()
