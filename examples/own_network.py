"""SDI as the skip connection of a small U-Net for volumes, trained to find balls in noise.

    python examples/own_network.py

Two lines differ from a plain U-Net; both are marked.
"""

import argparse
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdi_plugin import SDISkip, SegmentationMetrics

CHANNELS = [8, 16, 32]
STRIDES = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]  # thick slices: the depth is halved once, height and width twice


def block(inputs: int, outputs: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Sequential:
    conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.01))


class SmallUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(map(block, [1, *CHANNELS], CHANNELS, STRIDES))
        self.skip = SDISkip(CHANNELS, out_channels=CHANNELS, dim=3, norm="layer")  # the first line
        self.decoder = nn.ModuleList(block(fine + coarse, fine) for fine, coarse in pairwise(CHANNELS))
        self.head = nn.Conv3d(CHANNELS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        *finer, y = self.skip(features)  # the second line
        for skip, stage in zip(reversed(finer), reversed(self.decoder), strict=True):
            y = F.interpolate(y, size=skip.shape[2:], mode="trilinear")
            y = stage(torch.cat([skip, y], dim=1))
        return self.head(y)


def balls(batch: int, size: tuple[int, int, int] = (12, 28, 24)) -> tuple[Tensor, Tensor]:
    """Volumes (batch, 1, *size) of noise, each with a brighter ball, and the balls' masks."""
    axes = [torch.linspace(-1, 1, n) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centres = torch.rand(batch, 3, 1, 1, 1) - 0.5
    radii = 0.25 + 0.25 * torch.rand(batch, 1, 1, 1, 1)
    masks = ((grid - centres).norm(dim=1, keepdim=True) < radii).float()
    return masks + torch.randn(masks.shape), masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.manual_seed(0)

    network = SmallUNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(options.steps):
        volumes, masks = balls(4)
        loss = F.binary_cross_entropy_with_logits(network(volumes), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    metrics = SegmentationMetrics()
    with torch.no_grad():
        volumes, masks = balls(16)
        metrics.update(network.eval()(volumes).sigmoid(), masks)
    print(f"Dice on new volumes: {metrics.compute()['mean_dice']:.3f}")


if __name__ == "__main__":
    main()
