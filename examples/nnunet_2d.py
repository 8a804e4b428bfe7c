"""Train U-Net v2 in nnU-Net v2 on a folder of images and masks, 2-D, and predict the test images.

    python examples/nnunet_2d.py --data data/isic2018

The folder has the layout that smp_lesions.py describes. nnU-Net's own commands do the work; `sdi-plugin nnunet run`
before them is needed only where `sdi-plugin nnunet status` says that nnU-Net does not find the trainers.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

DATASET = "Dataset901_Lesions"


def write_raw(data: Path, raw: Path) -> None:
    """nnU-Net's raw format: RGB images as PNG, labels of 0 and 1, and dataset.json."""
    folders = {"train": "imagesTr", "test": "imagesTs"}
    for name in (*folders.values(), "labelsTr"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    names = {split: (data / "splits" / f"{split}.txt").read_text().split() for split in folders}
    for split, folder in folders.items():
        for case in names[split]:
            image = Image.open(next((data / "images").glob(f"{case}.*"))).convert("RGB")
            image.save(raw / folder / f"{case}_0000.png")
    for case in names["train"]:
        mask = np.asarray(Image.open(next((data / "masks").glob(f"{case}.*"))).convert("L"))
        label = mask > (127 if mask.max() > 1 else 0)  # masks of 0 and 1 look black
        Image.fromarray(label.astype(np.uint8)).save(raw / "labelsTr" / f"{case}.png")
    description = {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(names["train"]),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))


def run(*command: str) -> None:
    print("$", *command, flush=True)
    subprocess.run([sys.executable, "-m", "sdi_plugin", "nnunet", "run", *command], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--trainer", default="nnUNetTrainerUNetV2_50epochs", help="nnUNetTrainerUNetV2 trains 1000 epochs"
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "mps"))
    parser.add_argument("--work", type=Path, default=Path("runs/nnunet_2d"))
    options = parser.parse_args()

    for kind in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{kind}"] = str(options.work.absolute() / kind)
    raw = options.work / "raw" / DATASET
    write_raw(options.data, raw)
    run("nnUNetv2_plan_and_preprocess", "-d", "901", "-c", "2d", "--verify_dataset_integrity")
    run("nnUNetv2_train", "901", "2d", "0", "-tr", options.trainer, "-device", options.device)
    model = ("-d", "901", "-c", "2d", "-f", "0", "-tr", options.trainer, "-device", options.device)
    run("nnUNetv2_predict", "-i", str(raw / "imagesTs"), "-o", str(options.work / "predictions"), *model)


if __name__ == "__main__":
    main()
