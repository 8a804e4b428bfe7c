"""Train U-Net v2 through segmentation_models_pytorch on a folder of images and masks, and test it.

    python examples/smp_lesions.py --data data/isic2018

The folder has images/, masks/ (0 and 255, or 0 and 1; the same file stems), splits/train.txt and splits/test.txt with
one name per line: what `sdi-plugin data prepare` writes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sdi_plugin import DeepSupervisionLoss, SegmentationMetrics, StructureLoss
from sdi_plugin.adapters.smp import UNetV2  # what smp.create_model("unetv2", ...) builds

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)  # ImageNet's


class Lesions(Dataset):
    def __init__(self, folder: Path, split: str, size: int):
        self.folder, self.size = folder, (size, size)
        self.names = (folder / "splits" / f"{split}.txt").read_text().split()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self._open("images", index).convert("RGB").resize(self.size)
        mask = self._open("masks", index).convert("L").resize(self.size, Image.Resampling.NEAREST)
        pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        foreground = np.asarray(mask) > (127 if np.asarray(mask).max() > 1 else 0)  # masks of 0 and 1 look black
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(foreground)[None].float()

    def _open(self, kind: str, index: int) -> Image.Image:
        return Image.open(next((self.folder / kind).glob(f"{self.names[index]}.*")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", default="tu-pvt_v2_b2", help="name of an encoder of smp [the paper's]")
    parser.add_argument("--weights", help='weights of the encoder: "imagenet" or a file [a random start]')
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/smp_lesions"))
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)

    model = UNetV2(options.encoder, encoder_weights=options.weights, classes=1, deep_supervision=True).to(device)
    criterion = DeepSupervisionLoss(StructureLoss())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)

    training = DataLoader(Lesions(options.data, "train", options.size), batch_size=8, shuffle=True, drop_last=True)
    for epoch in range(options.epochs):
        model.train()
        for images, masks in training:
            loss = criterion(model(images.to(device)), masks.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {options.epochs}: loss {loss.item():.3f}")

    model.eval()
    metrics = SegmentationMetrics()
    with torch.no_grad():
        for images, masks in DataLoader(Lesions(options.data, "test", options.size), batch_size=8):
            metrics.update(model(images.to(device)).sigmoid().cpu(), masks)
    print("test: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.compute().items()))
    # smp.from_pretrained(options.out) loads it.
    model.save_pretrained(options.out)  # pyright: ignore[reportCallIssue]  smp wraps the method


if __name__ == "__main__":
    main()
