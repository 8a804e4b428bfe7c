"""The best small model of each task, in a folder ready for a release: weights, configuration, card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.study import compare, network, page, plan, tables
from benchmarks.study.settings import Run
from benchmarks.study.store import Document
from benchmarks.study.train import WEIGHTS
from benchmarks.study.work import Place
from sdi_plugin import files

_CARD = """\
# U-Net v2, {title}

{setting}, seed {seed}: the best of its protocol's runs of smp's `unetv2` on validation images. {start}.

```python
import segmentation_models_pytorch as smp
import sdi_plugin.adapters.smp

model = smp.from_pretrained("{folder}").eval()  # RGB of {size} x {size} pixels, 0 to 255, less 127.5, divided by 127.5
```

{scores}

For research, not for diagnosis. Trained on {data} alone: mind the terms of these data.
"""
_TRAINED_ON = {"polyps": "Kvasir-SEG and CVC-ClinicDB (PraNet's lists)", "isic2018": "ISIC 2018, task 1"}


def write(place: Place, folder: Path, say: Callable[[str], None] = print) -> None:
    """A folder for smp.from_pretrained for each data set, of the run that was best on validation images.

    Only what the package itself can build is taken: U-Net v2 at full data and one epoch budget.

    Raises:
        ValueError: there is no such run.
    """
    groups = page.by_protocol(place.store)
    found = 0
    for protocol in (plan.POLYPS, plan.ISIC):
        runs = [d for documents in groups.get(protocol, {}).values() for d in documents if _is_public(d)]
        if not runs:
            continue
        best = max(runs, key=compare.score)
        target = folder / f"unetv2-{protocol.encoder}-{protocol.data}-{protocol.size}"
        run = Run.from_json(best["run"])
        model: Any = network.build(run, place.weights)[0]
        model.load_state_dict(torch.load(place.folder(run) / WEIGHTS, weights_only=True, map_location="cpu"))
        with files.folder(target) as partial:
            model.save_pretrained(str(partial))
            (partial / "README.md").write_text(_card(best, run, target.name))
        say(f"{target}: {best['id']}, mean Dice {compare.score(best):.4f} on validation images")
        found += 1
    if not found:
        raise ValueError("study: there is no run of U-Net v2 to release yet.")


def _is_public(document: Document) -> bool:
    run = Run.from_json(document["run"])
    return run.network == "unetv2" and network.is_public(run.setting) and "validation" in document


def _card(document: Document, run: Run, folder: str) -> str:
    rows = [
        [
            part,
            name,
            str(values["count"]),
            *(f"{compare.per_set(document, part, m)[name].mean():.4f}" for m in ("dice", "iou")),
        ]
        for part in ("validation", "test")
        for name, values in document.get(part, {}).items()
    ]
    return _CARD.format(
        title=tables.title(run.protocol),
        setting=run.setting.title().capitalize(),
        seed=run.seed,
        start=f"The encoder started from {document['start']}",
        folder=folder,
        size=run.protocol.size,
        scores=tables.table(["images of", "set", "images", "Dice", "IoU"], rows),
        data=_TRAINED_ON[run.protocol.data],
    )
