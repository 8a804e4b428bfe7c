"""Which images train, which choose and which test: by fixed rules, from the data sets' own lists."""

import hashlib
from pathlib import Path
from typing import NamedTuple

# First frames of CVC-ClinicDB's 29 video sequences, https://polyp.grand-challenge.org/CVCClinicDB/
_CLINICDB_STARTS = (
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448, 467, 479,
    504, 529, 547, 572, 592,
)  # fmt: skip
_BLOCK = 25  # consecutive ids of Kvasir-SEG that stay together
_EVERY = 5  # of the sequences and blocks, the last of every five is for validation


class Image(NamedTuple):
    """An image of a data set's folder, by its id."""

    folder: str
    id: str


Named = dict[str, list[Image]]


def training(data: str, root: Path) -> tuple[list[Image], Named]:
    """The images to train on, and those for validation by the name of their set.

    polyps: PraNet's training lists, 900 of Kvasir-SEG and 547 of ClinicDB, without what validates: sequences 5, 10, 15,
    20 and 25 of ClinicDB, whole, and every fifth block of 25 consecutive ids of Kvasir-SEG, whose ids follow the time
    of the upload, so that neighbours may be of one examination. isic2018: the repository's own lists.

    Raises:
        ValueError: no such data.
        OSError: a list is missing.
    """
    if data == "isic2018":
        return _listed(root, "isic2018", "repo_train"), {"isic2018": _listed(root, "isic2018", "repo_val")}
    if data != "polyps":
        raise ValueError(f"study: expected data of polyps or isic2018, got {data!r}.")
    kvasir = sorted(_listed(root, "kvasir", "pranet_train"))
    clinic = sorted(_listed(root, "clinicdb", "pranet_train"), key=lambda image: int(image.id))
    groups = {
        "kvasir": [(image, 1 + i // _BLOCK) for i, image in enumerate(kvasir)],
        "clinicdb": [(image, sequence(int(image.id))) for image in clinic],
    }
    train = [image for images in groups.values() for image, group in images if group % _EVERY]
    return train, {name: [i for i, group in images if not group % _EVERY] for name, images in groups.items()}


def test(data: str, root: Path) -> Named:
    """The test sets; called by the one command that reads them.

    PraNet's for polyps. Kvasir and ClinicDB come from the sources of the training images, frames of the training
    sequences of ClinicDB among them; ColonDB is unseen, and CVC-300 is a part of it.
    """
    if data == "isic2018":
        return {"isic2018": _listed(root, "isic2018", "repo_test")}
    return {
        "kvasir": _listed(root, "kvasir", "pranet_test"),
        "clinicdb": _listed(root, "clinicdb", "pranet_test"),
        "colondb": _listed(root, "colondb", "all"),
        "cvc300": _listed(root, "colondb", "cvc300_test60_ids"),
    }


def sequence(frame: int) -> int:
    """The video sequence, from 1, of a frame of CVC-ClinicDB."""
    if not 1 <= frame <= 612:
        raise ValueError(f"study: expected a frame of CVC-ClinicDB from 1 to 612, got {frame}.")
    return sum(frame >= first for first in _CLINICDB_STARTS)


def share(images: list[Image], percent: int, seed: int) -> list[Image]:
    """That part of the images, at least one, in their order: the same for every network at a seed.

    A smaller part is a part of every larger one.
    """
    count = max(1, round(len(images) * percent / 100))
    drawn = sorted(images, key=lambda i: hashlib.sha256(f"{seed}/{i.folder}/{i.id}".encode()).digest())[:count]
    return [image for image in images if image in set(drawn)]


def fingerprint(images: list[Image]) -> str:
    """By which two results know that they are of the same images in the same order."""
    return hashlib.sha256("\n".join(f"{image.folder}/{image.id}" for image in images).encode()).hexdigest()[:16]


def _listed(root: Path, folder: str, name: str) -> list[Image]:
    return [Image(folder, line) for line in (root / folder / "splits" / f"{name}.txt").read_text().split()]
