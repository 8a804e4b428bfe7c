"""The metrics of every image, at the size that its mask came in."""

from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.study.encoders import Encoder
from benchmarks.study.images import Images
from sdi_plugin import SegmentationMetrics

QUICK = ("dice", "iou", "mae")
SALIENCY = ("s_measure", "e_measure", "weighted_f")
FULL = (*QUICK, "hd95", *SALIENCY)
_DIGITS = 4


@torch.no_grad()
def evaluate(
    model: nn.Module, images: Images, encoder: Encoder, *, full: bool = False
) -> dict[str, list[float | None]]:
    """Metrics by name, one value for each image in their order; None where a distance is infinite.

    Logits are resized to the mask's size, then the sigmoid, and 0.5 is the threshold. The published polyp scores
    stretch every image's probabilities to 0..1 before that threshold, which finds a polyp in every image: not done.

    Args:
        full: HD95, and S-measure, mean E-measure and weighted F-measure by PySODMetrics, too.

    Raises:
        ImportError: full, and pysodmetrics is not installed.
    """
    model.eval()
    metrics = SegmentationMetrics(hd95=full)
    saliency = _Saliency() if full else None
    device = next(model.parameters()).device
    for pixels, truth in zip(images.pixels.split(1), images.truths, strict=True):
        logits = model(encoder.normalise(pixels.to(device)))
        probability = F.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=False).sigmoid().cpu()
        metrics.update(probability, truth[None])
        if saliency is not None:
            saliency.update(probability[0, 0], truth[0])
    found = {name: values for name, values in metrics.per_image().items() if name in FULL}
    if saliency is not None:
        found |= saliency.per_image()
    return {name: [_rounded(value) for value in values.tolist()] for name, values in found.items()}


def _rounded(value: float) -> float | None:
    return round(value, _DIGITS) if abs(value) < float("inf") else None


class _Saliency:
    def __init__(self) -> None:
        try:
            library = import_module("py_sod_metrics")
        except ImportError as error:
            raise ImportError(
                "study: the test metrics need PySODMetrics. Install it: pip install pysodmetrics"
            ) from error
        self.metrics: Any = (library.Smeasure(), library.Emeasure(), library.WeightedFmeasure())

    def update(self, probability: Tensor, truth: Tensor) -> None:
        # In steps of 1 / 255, as from the PNG files that the published evaluations read; not stretched.
        prediction, mask = (probability * 255).round().byte().numpy(), truth.byte().numpy() * 255
        for metric in self.metrics:
            metric.step(prediction / 255.0, mask > 0, normalize=False)

    def per_image(self) -> dict[str, Tensor]:
        s_measure, e_measure, weighted_f = self.metrics
        values = (s_measure.sms, [curve.mean() for curve in e_measure.changeable_ems], weighted_f.weighted_fms)
        return {name: torch.tensor(list(map(float, v))) for name, v in zip(SALIENCY, values, strict=True)}
