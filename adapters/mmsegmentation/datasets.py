"""Lesion data sets as `sdi-plugin data prepare NAME --layout mmseg` lays them out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform

from sdi_plugin.checkpoint.names import shorten

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

_PALETTE = [[0, 0, 0], [0, 192, 64]]
_CURE = "Prepare the data set: sdi-plugin data prepare NAME --source DOWNLOAD --out {} --layout mmseg"


@DATASETS.register_module()
class LesionDataset(BaseSegDataset):
    """A folder, or several, with img_dir/, ann_dir/, splits/*.txt and dataset.json: classes background and lesion.

    Args:
        data_root: that folder, or a list of them, whose images are concatenated.
        ann_file: one id per line, such as "splits/train.txt", in each folder; by default all images of img_dir.
        data_prefix, img_suffix: as for every data set of mmseg; by default what the layout says.
        dataset_name: written into the samples, for `LesionMetric`; by default the name of the folder.
        kwargs: see mmseg's BaseSegDataset.

    Convention:
        Masks hold 0, 1 and, for ignored pixels, 255 (the pipeline's `MaskToLabels` converts 0 and 255 to 0 and 1).

    Raises:
        FileNotFoundError: no such folders; no dataset.json, and no img_suffix given; no such split (the error lists
            those that exist).
        ValueError: no folder; dataset.json describes another layout.

    Examples:
        >>> from sdi_plugin.adapters.mmsegmentation import LesionDataset
        >>> dataset = LesionDataset("data/isic2018", ann_file="splits/train.txt")
        >>> len(dataset), dataset.metainfo["classes"]
        (1, ('background', 'lesion'))
    """

    METAINFO: ClassVar[dict] = {"classes": ("background", "lesion"), "palette": _PALETTE}

    def __init__(
        self,
        data_root: str | Sequence[str],
        ann_file: str = "",
        data_prefix: dict | None = None,
        img_suffix: str | None = None,
        dataset_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        roots = [data_root] if isinstance(data_root, str | Path) else list(data_root)
        if not roots:
            raise ValueError(f"{type(self).__name__}: expected data_root, one folder or more, got none.")
        if missing := [str(root) for root in roots if not Path(root).is_dir()]:
            raise FileNotFoundError(
                f"{type(self).__name__}: expected the folders of data_root, found no {', '.join(missing)}. "
                f"{_CURE.format(missing[0])}; or leave them out of data_root."
            )
        lazy = {**kwargs, "lazy_init": True}
        self.others = [type(self)(root, ann_file, data_prefix, img_suffix, dataset_name, **lazy) for root in roots[1:]]
        root = Path(roots[0])
        self.dataset_name = root.name if dataset_name is None else dataset_name
        super().__init__(
            data_root=str(root),
            ann_file=ann_file,
            data_prefix=data_prefix or {"img_path": "img_dir", "seg_map_path": "ann_dir"},
            img_suffix=_described_suffix(type(self).__name__, root) if img_suffix is None else img_suffix,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        if self.ann_file and not Path(self.ann_file).exists():
            splits = sorted(path.name for path in Path(self.ann_file).parent.glob("*.txt"))
            raise FileNotFoundError(
                f"{type(self).__name__}: expected the split {self.ann_file}, found no such file; in its folder there "
                f"{'are ' + ', '.join(splits) if splits else 'is no split'}. Pass ann_file with one that exists."
            )
        own = [{**item, "dataset_name": self.dataset_name} for item in super().load_data_list()]
        return own + [item for other in self.others for item in other.load_data_list()]


@DATASETS.register_module()
class ISICDataset(LesionDataset):
    """Skin lesions of the ISIC challenges 2016, 2017 and 2018 (task 1), see `LesionDataset`.

    Examples:
        >>> from sdi_plugin.adapters.mmsegmentation import ISICDataset
        >>> dataset = ISICDataset("data/isic2018", ann_file="splits/test.txt")
        >>> len(dataset), dataset.metainfo["classes"]
        (1, ('background', 'lesion'))
    """


@DATASETS.register_module()
class PH2Dataset(LesionDataset):
    """Skin lesions of PH2, see `LesionDataset`.

    Examples:
        >>> from sdi_plugin.adapters.mmsegmentation import PH2Dataset
        >>> dataset = PH2Dataset("data/ph2", ann_file="splits/all.txt")
        >>> dataset.metainfo["classes"]
        ('background', 'lesion')
    """


@DATASETS.register_module()
class PolypDataset(LesionDataset):
    """Polyps of Kvasir-SEG, ClinicDB, ColonDB, CVC-300 and ETIS, see `LesionDataset`: classes background and polyp.

    Examples:
        >>> from sdi_plugin.adapters.mmsegmentation import PolypDataset
        >>> dataset = PolypDataset(["data/kvasir", "data/clinicdb"], ann_file="splits/pranet_train.txt")
        >>> sorted({item["dataset_name"] for item in dataset}), dataset.metainfo["classes"]
        (['clinicdb', 'kvasir'], ('background', 'polyp'))
    """

    METAINFO: ClassVar[dict] = {"classes": ("background", "polyp"), "palette": _PALETTE}


@TRANSFORMS.register_module()
class MaskToLabels(BaseTransform):
    """Convert masks of 0 and 255, as ISIC and others publish them, to 0 and 1: for mmseg 255 means "ignore".

    Goes after LoadAnnotations; where there is no annotation (inference) it does nothing.

    Args:
        foreground: the value of the foreground in all masks: 255, or 1, in which case 255 marks ignored pixels; None
            assumes the latter for a mask with a 1, and the former for a mask with a 255 but no 1.

    Convention:
        0 and 255 become 0 and 1; 0 and 1, with or without 255 for ignored pixels, stay as they are.

    Raises:
        ValueError: another `foreground`; a mask with other values; with None, masks of both kinds in one folder, where
            255 may be foreground or ignored.

    Examples:
        >>> import numpy as np
        >>> from sdi_plugin.adapters.mmsegmentation import MaskToLabels
        >>> to_labels = MaskToLabels()  # in a pipeline: dict(type="MaskToLabels")
        >>> to_labels({"gt_seg_map": np.array([[0, 255]])})["gt_seg_map"]
        array([[0, 1]], dtype=uint8)
    """

    def __init__(self, foreground: int | None = None) -> None:
        if foreground not in (None, 1, 255):
            raise ValueError(f"MaskToLabels: expected foreground None, 1 or 255, got {foreground!r}.")
        self.foreground = foreground
        self._first: dict[Path, tuple[int, str]] = {}  # per folder: its first mask's foreground and file

    def transform(self, results: dict) -> dict:
        mask = results.get("gt_seg_map")
        if mask is None:
            return results
        file = str(results.get("seg_map_path"))
        values = np.unique(mask).tolist()
        if not set(values) <= ({0, 255} if self.foreground == 255 else {0, 1, 255}):
            expected = "0 and 255" if self.foreground == 255 else "0 and 255, 0 and 1, or 0, 1 and 255 = ignored"
            got = shorten([str(value) for value in values])
            raise ValueError(
                f"MaskToLabels: expected masks with the values {expected}, got {got} in {file}. "
                "`sdi-plugin data prepare ... --layout mmseg` makes masks of two values; leave this transform out for "
                "labels of several classes."
            )
        if max(values) == 0:
            return results
        foreground = self.foreground or self._guessed(1 if 1 in values else 255, file)
        if foreground == 255:
            results["gt_seg_map"] = (mask == 255).astype(np.uint8)
        return results

    def _guessed(self, foreground: int, file: str) -> int:
        first, of = self._first.setdefault(Path(file).parent, (foreground, file))
        if first != foreground:
            one, other = (of, file) if first == 1 else (file, of)
            raise ValueError(
                f"MaskToLabels: expected masks of one kind in a folder, got {of} and {file}: the foreground is 1 in "
                f"{one}, while {other} holds 255 and no 1. Say what 255 is: MaskToLabels(foreground=1) takes it for "
                "ignored pixels, MaskToLabels(foreground=255) for the foreground, and refuses masks with a 1."
            )
        return foreground


def _described_suffix(owner: str, root: Path) -> str:
    file = root / "dataset.json"
    if not file.is_file():
        raise FileNotFoundError(f"{owner}: expected {file}, found none. {_CURE.format(root)}; or pass img_suffix.")
    description = json.loads(file.read_text(encoding="utf-8"))
    if description.get("layout") != "mmseg":
        raise ValueError(
            f"{owner}: expected a data set in the layout mmseg, got {description.get('layout')!r} in {root}. "
            "Prepare it with --layout mmseg."
        )
    return description["img_suffix"]
