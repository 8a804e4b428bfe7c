"""A card as a README.md: what the Hugging Face hub and a reader see of a network."""

import json

from sdi_plugin.checkpoint.card import Card

_USE = """## Use

```bash
sdi-plugin predict THIS images/ --out predicted
```

```python
import sdi_plugin

model = sdi_plugin.load("THIS")  # model(images) gives the logits of normalised images (B, C, H, W)
```
"""


def readme(card: Card) -> str:
    """The whole file for a network of the core, with the header that the hub reads."""
    header = {
        "library_name": "sdi-plugin",
        "pipeline_tag": "image-segmentation",
        "tags": ["u-net-v2", "semantic-segmentation", "pytorch"],
    }
    # JSON is YAML too.
    lines = [f"{name}: {json.dumps(value)}" for name, value in header.items()]
    return "\n".join(["---", *lines, "---", "# U-Net v2", "", _USE, sections(card)])


def sections(card: Card) -> str:
    """Images, labels, metrics, training data and versions, as far as the card says."""
    if card.per_image:
        normalisation = "each channel of each image by its own mean and deviation"
    elif card.mean is None or card.std is None:
        normalisation = "not known"
    else:
        normalisation = f"pixels from 0 to 255, minus {_numbers(card.mean)}, divided by {_numbers(card.std)}"
    facts = {
        "normalisation": normalisation,
        "size": "the image's own" if card.size is None else f"resized to {card.size[0]} x {card.size[1]}",
        "labels": ", ".join(card.labels) or "not known",
        "threshold, for one channel": f"{card.threshold:g}",
    }
    if card.summed_heads > 1:
        facts["heads that are added"] = str(card.summed_heads)
    data = {"name": card.data.get("name", "not known"), "licence": card.data.get("licence", "not known")}
    parts = ["## Images and labels", _table(facts)]
    if card.metrics:
        parts += ["## Metrics", _table({name: f"{score:.4f}" for name, score in card.metrics.items()})]
    parts += ["## Training data", _table(data)]
    if card.architecture:
        parts += ["## Architecture", f"```json\n{json.dumps(dict(card.architecture), indent=2, default=str)}\n```"]
    if card.versions:
        parts += ["## Versions", _table({name: str(version) for name, version in card.versions.items() if version})]
    return "\n\n".join(parts) + "\n"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(facts: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items())])


def _cell(text: str) -> str:
    """One line that stays in its cell: a card may be a stranger's."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
