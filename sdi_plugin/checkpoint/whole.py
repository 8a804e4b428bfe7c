"""A checkpoint with everything that it says: weights, card, and which file of a folder they are in."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sdi_plugin.checkpoint.card import Card
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.export import WEIGHTS
from sdi_plugin.checkpoint.origin import card_of
from sdi_plugin.checkpoint.reading import read_with_extras

_CONFIG = "config.json"  # beside WEIGHTS


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with everything that it says.

    Attributes:
        file: the file of the weights.
        state: see `read`.
        card: what is known besides the weights.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> found = checkpoint.read_whole("UNet_v2_official.pth")
        >>> found.card.mean is None  # official files hold nothing but weights
        True
    """

    file: Path
    state: dict[str, Tensor]
    card: Card


def read_whole(path: str | Path) -> Checkpoint:
    """A file, or the weights in a folder, with what is known of them.

    A folder may be one of save_pretrained, one that `sdi-plugin demo` wrote, a work_dir of MMSegmentation (its last
    checkpoint), or a model folder of nnU-Net or a fold in it (the first fold, its final checkpoint).

    Raises:
        FileNotFoundError: there is no such file or folder.
        CheckpointError: a folder without weights, see also `read`; or a card or config.json that cannot be read.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> checkpoint.read_whole("unetv2-smp").file.name
        'model.safetensors'
    """
    file = find(Path(path))
    state, extras = read_with_extras(file)
    try:
        card = _of_folder(file.parent / _CONFIG) if file.name == WEIGHTS else None
        return Checkpoint(file, state, card_of(extras) if card is None else card)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


def find(path: Path) -> Path:
    """The path itself, or the file of weights in a folder."""
    if not path.is_dir():
        return path
    found = next((file for file in _weights_in(path) if file.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{path}: expected a checkpoint, or a folder with {WEIGHTS} (smp), model/{WEIGHTS} (sdi-plugin demo), "
            "last_checkpoint (MMSegmentation) or fold_0/checkpoint_final.pth (nnU-Net), got a folder without it."
        )
    return found


def _weights_in(folder: Path) -> Iterator[Path]:
    yield folder / WEIGHTS
    yield folder / "model" / WEIGHTS
    if (folder / "last_checkpoint").is_file():  # a path of the machine where it was trained
        yield folder / Path((folder / "last_checkpoint").read_text(encoding="utf-8").strip()).name
    for fold in (folder, *sorted(folder.glob("fold_*"))):
        yield from (fold / f"checkpoint_{kind}.pth" for kind in ("final", "best"))


def _of_folder(file: Path) -> Card | None:
    """The card in an smp folder's config.json, with its arguments as the architecture."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        own = {name: value for name, value in config.items() if not name.startswith("_")}
        framework = "smp" if config.get("_model_class") == "UNetV2" else None
        card = config.get("_card")
    except FileNotFoundError:
        return None
    except (AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"expected smp's {_CONFIG} beside it, got another ({error}).") from error
    if framework is None and card is None:
        return None
    architecture = {"framework": framework, "arguments": own}
    return dataclasses.replace(Card() if card is None else Card.from_json(card), architecture=architecture)
