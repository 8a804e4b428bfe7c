"""`python -m tests.reliability.fuzzing TARGET FOLDER SECONDS FIRST`: try cases until the time is up or one fails.

A case follows from its target and number alone, so that a failure is tried again with that number. It is written to
FOLDER before it is tried: there it is after a crash. A line on stdout says before each case which it is, and at the end
what came of all.
"""

import io
import json
import resource
import sys
import time
import traceback
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sdi_plugin import SDI, SDISkip, UNetV2Decoder, checkpoint, data
from sdi_plugin.checkpoint import CheckpointError
from sdi_plugin.data import masks, pixels
from sdi_plugin.deploy import images, large
from tests.reliability import models
from tests.reliability.target import Generator, Target, mutated

MEMORY = 6 << 30  # of address space: what a case may claim is not what it has
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod",
    "os.link", "os.symlink", "os.truncate", "subprocess.Popen", "shutil.rmtree", "socket.connect", "socket.bind",
    "ctypes.dlopen", "pty.spawn", "webbrowser.open",
)  # fmt: skip


def _state() -> dict[str, Any]:
    tensors = {"encoder.weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(4, dtype=torch.float16)}
    return {"epoch": 3, "state_dict": tensors, "log": [np.float64(0.5), np.arange(3)]}


def _saved(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(_state(), buffer, **options)
    return buffer.getvalue()


def _pickle_in_whole_zip(generator: Generator) -> bytes:
    """The pickle alone is changed, and every checksum is right."""
    found, buffer = zipfile.ZipFile(io.BytesIO(ZIP)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in found.namelist():
            content = found.read(name)
            made.writestr(name, mutated(content, generator) if name.endswith("data.pkl") else content)
    return buffer.getvalue()


def _picture(kind: str, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
    picture = Image.fromarray(values, "RGBA").convert(mode) if mode != "I;16" else Image.fromarray(_SIXTEEN)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


_SIXTEEN = np.arange(108, dtype=np.uint16).reshape(9, 12) * 600


def _archive(generator: Generator) -> bytes:
    """A packed data set, in which the archive or one of its files is damaged."""
    buffer, spoilt = io.BytesIO(), generator.randrange(6)
    with zipfile.ZipFile(buffer, "w", generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for index in range(2):
            for part, content in (("images", PICTURES[0]), ("masks", MASK)):
                number = 2 * index + (part == "masks")
                made.writestr(f"{part}/a{index}.png", mutated(content, generator) if number == spoilt else content)
        made.writestr("splits/train.txt", mutated(b"a0\na1\n", generator) if spoilt == 4 else b"a0\n")
    return mutated(buffer.getvalue(), generator) if spoilt == 5 else buffer.getvalue()


def _arguments(generator: Generator) -> bytes:
    values: Sequence[Any] = (
        0, 1, 2, 3, 8, -1, 2.5, True, None, "paper", "unit", "product", "asinh", "all", "", "batch", (), (4,),
        [4, 8], [4, 8, 16], [0, 4], [4, -8], ["4"], [None], {}, float("nan"), b"4", [[4]], range(1, 4), {"a": 1},
    )  # fmt: skip
    names = ("channels", "levels", "dim", "init", "fusion", "deep_supervision", "classes", "norm", "attention")
    count = generator.randrange(3)
    first = [generator.choice(values) for _ in range(generator.randrange(3))]
    found = (first, {generator.choice(names): generator.choice(values) for _ in range(count)})
    return f"{generator.randrange(3)} {found!r}".encode()


def _construct(path: Path) -> None:
    which, _, text = path.read_text().partition(" ")
    arguments, named = eval(text, {"nan": float("nan"), "range": range})  # what _arguments has written
    (SDI, SDISkip, UNetV2Decoder)[int(which)](*arguments, **named)


def _read_as_large(path: Path) -> None:
    """By libvips, also small images; none is so large that decoding it takes seconds."""
    large.PIXELS, images.MAX_PIXELS = 0, 2**24
    for picture in images.pages(path, 3):
        height, width = picture.size
        picture.crop(0, 0, min(height, 64), min(width, 64))
        picture.crop(height - 1, width - 1, height, width)


def _prepare(path: Path) -> None:
    data.prepare("etis", path, path.with_name("prepared"), skip_bad=True)


ZIP, LEGACY = _saved(), _saved(_use_new_zipfile_serialization=False)
PICTURES = [
    _picture("PNG", "RGB"), _picture("PNG", "P"), _picture("PNG", "I;16"), _picture("JPEG", "RGB"),
    _picture("JPEG", "CMYK"), _picture("JPEG", "RGB", progressive=True), _picture("TIFF", "RGB"),
    _picture("TIFF", "I;16"), _picture("TIFF", "L", compression="tiff_lzw"), _picture("BMP", "RGB"),
]  # fmt: skip
MASK = _picture("PNG", "1")


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save(_state()["state_dict"], {"format": "pt"})


def _read(path: Path) -> None:
    checkpoint.read_whole(path)


TARGETS: dict[str, Target] = {
    "checkpoint, zip": Target(lambda g: mutated(ZIP, g), _read, (CheckpointError,), weight=2),
    "checkpoint, pickle": Target(_pickle_in_whole_zip, _read, (CheckpointError,), weight=2),
    "checkpoint, before 1.6": Target(lambda g: mutated(LEGACY, g), _read, (CheckpointError,), weight=2),
    "checkpoint, safetensors": Target(lambda g: mutated(_safetensors(), g), _read, (CheckpointError,), weight=2),
    "images": Target(
        lambda g: mutated(g.choice(PICTURES), g), lambda path: list(images.pages(path, 3)), (images.ImageError,)
    ),
    "images, large": Target(lambda g: mutated(g.choice(PICTURES), g), _read_as_large, (images.ImageError,)),
    "masks": Target(lambda g: mutated(g.choice([MASK, *PICTURES]), g), masks.read, (pixels.PixelError,)),
    "archives": Target(_archive, _prepare, (data.DataError, data.WriteError), writes=True, file="case.zip"),
    "arguments": Target(_arguments, _construct, (ValueError, TypeError)),
    **models.TARGETS,
}


def watch(allowed: Path) -> list[str]:
    """What a process does beyond computing and reading is added to the list that this returns."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        inside = str(arguments[0]).startswith((str(allowed), "/dev/null"))
        part_of_rmtree = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # an event of its own
        if (event in FORBIDDEN or written) and not (inside or part_of_rmtree):
            seen.append(f"{event}{arguments[:2]}")

    sys.addaudithook(hook)
    return seen


def main(name: str, folder: str, seconds: str, first: str) -> int:
    target, number = TARGETS[name], int(first)
    case = Path(folder) / target.file
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if target.prepare:
        target.prepare(case.parent)
    deadline, refused, slowest, seen = time.monotonic() + float(seconds), 0, 0.0, None
    undocumented = ""
    while time.monotonic() < deadline:
        print(number, flush=True)
        content = target.make(Generator(f"{name} {number}"))
        case.write_bytes(content)
        begun = time.monotonic()
        try:
            target.attempt(case)
        except target.documented:
            refused += 1
        except BaseException:
            undocumented = traceback.format_exc()
        slowest = max(slowest, time.monotonic() - begun)
        undocumented = undocumented or (f"it did {seen}" if seen else "")
        if target.writes:
            _remove(case.with_name("prepared"))
        if seen is None:  # the first case imports what is imported when it is used
            seen = watch(Path(folder))
        number += 1
        if undocumented:
            print(f"case {number - 1}: {undocumented}", flush=True)
            break
    figures = {"cases": number - int(first), "refused": refused, "undocumented": int(bool(undocumented))}
    print(json.dumps({**figures, "slowest": round(slowest, 2)}), flush=True)
    return 1 if undocumented else 0


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
