"""Predictions for volumes, by nnU-Net's own reader and predictor."""

import glob
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from sdi_plugin.deploy.exports import export_of
from sdi_plugin.deploy.folder import Summary
from sdi_plugin.deploy.loading import Loaded


def predict(
    model: Loaded,
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    flips: bool = False,
    device: str = "auto",
    on_file: Callable[[Path, str], None] = lambda file, error: None,
) -> Summary:
    """Write OUT/masks/CASE.nii.gz, or with the data set's other ending, for every case.

    Args:
        model: a 3-D network of nnU-Net, from its model folder or checkpoint.
        inputs: files CASE_0000.nii.gz, CASE_0001.nii.gz ... for the channels of a case, their folders, or patterns. The
            number may be left out where there is one channel.

    Returns:
        What was done. Cases that have a mask are skipped; those that nnU-Net cannot read are in `failed`.

    Raises:
        ValueError: not a network of nnU-Net, or one of a cascade.
        FileNotFoundError: an input names nothing.
    """
    if model.card.architecture.get("framework") != "nnunet":
        raise ValueError(f"predict: expected nnU-Net's model folder for volumes, got {model.file} without its plans.")
    adapter: Any = export_of("nnunet")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    predictor = adapter.volumes(model.network, model.card.architecture["arguments"], device, flips)
    masks, summary = Path(out, "masks"), Summary()
    masks.mkdir(parents=True, exist_ok=True)
    for case, files in _cases(inputs, predictor.ending).items():
        target, error = masks / f"{case}{predictor.ending}", ""
        if target.exists():
            summary.skipped += 1
        elif len(files) != predictor.channels:
            error = f"expected {predictor.channels} files {case}_0000{predictor.ending} ..., got {len(files)}"
        else:
            try:
                with tempfile.TemporaryDirectory(dir=out) as partial:
                    predictor(files, Path(partial, case))
                    Path(partial, target.name).replace(target)
                summary.done += 1
            except Exception as caught:  # readers of volumes raise anything
                error = str(caught) or type(caught).__name__
        if error:
            summary.failed[str(files[0])] = error
        on_file(files[0], error)
    return summary


def _cases(inputs: Iterable[str | Path], ending: str) -> dict[str, list[Path]]:
    """The files of each case, in the order of their channels."""
    found: set[Path] = set()
    for given in inputs:
        path = Path(given)
        files = (
            path.glob(f"*{ending}") if path.is_dir() else [path] if path.exists() else map(Path, glob.glob(str(given)))
        )
        named = {file for file in files if file.name.endswith(ending)}
        if not named:
            raise FileNotFoundError(f"{given}: expected volumes *{ending}, found none.")
        found |= named
    cases: dict[str, list[Path]] = {}
    for file in sorted(found):
        cases.setdefault(re.sub(r"_\d{4}$", "", file.name.removesuffix(ending)), []).append(file)
    return cases
