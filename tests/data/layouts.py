"""Small copies of every official layout, as the archives and folders that people download."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32


def expected_mask(id_):
    """A block that differs from id to id; multiples of 8, so that JPEG keeps it exactly."""
    number = sum(id_.encode())
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8 * (number % 2) :, 8 * (number % 3) :][:16, :16] = 1
    return mask


def encode(kind, id_, suffix, foreground=255):
    if kind == "mask":
        image = Image.fromarray(expected_mask(id_) * foreground)
        if suffix == ".bmp":  # as PH2 has them: one bit per pixel
            image = image.convert("1")
    else:
        image = Image.new("RGB", (WIDTH, HEIGHT), (sum(id_.encode()) % 256, 90, 30))
    buffer = io.BytesIO()
    formats = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}
    image.save(buffer, formats[suffix], **({"quality": 95} if suffix == ".jpg" else {}))
    return buffer.getvalue()


def pairs(images, masks, *ids):
    """{path: content} from two patterns such as "images/{}.jpg"."""
    files = {}
    for id_ in ids:
        files[images.replace("{}", id_)] = encode("image", id_, Path(images).suffix)
        files[masks.replace("{}", id_)] = encode("mask", id_, Path(masks).suffix)
    return files


def isic(images, masks, folders, suffix="_segmentation"):
    files = {}
    for folder, id_ in folders.items():
        files |= pairs(images.format(folder) + "/{}.jpg", masks.format(folder) + f"/{{}}{suffix}.png", id_)
    return files


PRANET = {
    **pairs("TrainDataset/image/{}.png", "TrainDataset/mask/{}.png", "cju1", "cju2", "11", "12"),
    **pairs("TestDataset/Kvasir/images/{}.png", "TestDataset/Kvasir/masks/{}.png", "cju3"),
    **pairs("TestDataset/CVC-ClinicDB/images/{}.png", "TestDataset/CVC-ClinicDB/masks/{}.png", "13"),
    **pairs("TestDataset/CVC-ColonDB/images/{}.png", "TestDataset/CVC-ColonDB/masks/{}.png", "1", "2"),
    **pairs("TestDataset/CVC-300/images/{}.png", "TestDataset/CVC-300/masks/{}.png", "149"),
    **pairs("TestDataset/ETIS-LaribPolypDB/images/{}.png", "TestDataset/ETIS-LaribPolypDB/masks/{}.png", "1", "3"),
}
OFFICIAL_SPLITS = {"train": ["ISIC_0000001"], "val": ["ISIC_0000002"], "test": ["ISIC_0000003"]}
FOLDERS_2018 = {"Training": "ISIC_0000001", "Validation": "ISIC_0000002", "Test": "ISIC_0000003"}
FOLDERS_2017 = {"Training": "ISIC_0000001", "Validation": "ISIC_0000002", "Test_v2": "ISIC_0000003"}
NOISE = encode("image", "x", ".png")

# layout: data set, files, splits
CASES = {
    "kvasir-official": (
        "kvasir",
        {
            **pairs("Kvasir-SEG/images/{}.jpg", "Kvasir-SEG/masks/{}.jpg", "cju1", "cju2"),
            "Kvasir-SEG/train.txt": b"cju1.jpg\r\n",
            "Kvasir-SEG/val.txt": b"cju2\n",
            "Kvasir-SEG/kavsir_bboxes.json": b"{}",
        },
        {"train": ["cju1"], "val": ["cju2"]},
    ),
    "kvasir-pranet": ("kvasir", PRANET, {"pranet_train": ["cju1", "cju2"], "pranet_test": ["cju3"]}),
    "clinicdb-official": (
        "clinicdb",
        pairs("CVC-ClinicDB/Original/{}.tif", "CVC-ClinicDB/Ground Truth/{}.tif", "1", "2"),
        {"all": ["1", "2"]},
    ),
    "clinicdb-tif-and-png": (
        "clinicdb",
        {
            **pairs("TIF/Original/{}.tif", "TIF/Ground Truth/{}.tif", "1", "2"),
            **pairs("PNG/Original/{}.png", "PNG/Ground Truth/{}.png", "1", "2"),
        },
        {"all": ["1", "2"]},
    ),
    "clinicdb-pranet": ("clinicdb", PRANET, {"pranet_train": ["11", "12"], "pranet_test": ["13"]}),
    "colondb-images": (
        "colondb",
        pairs("CVC-ColonDB/images/{}.bmp", "CVC-ColonDB/masks/{}.png", "1", "2"),
        {"all": ["1", "2"]},
    ),
    "colondb-one-folder": (
        "colondb",
        {
            **pairs("CVC-ColonDB/{}.bmp", "CVC-ColonDB/p{}.bmp", "1", "2"),
            "CVC-ColonDB/c1.bmp": encode("mask", "c", ".bmp"),
            "CVC-ColonDB/s1.bmp": encode("mask", "s", ".bmp"),
        },
        {"all": ["1", "2"]},
    ),
    "colondb-pranet": ("colondb", PRANET, {"pranet_test": ["1", "2"]}),
    "cvc300-official": (
        "cvc300",
        {
            **pairs("CVC-300/bbdd/{}.bmp", "CVC-300/gtpolyp/{}.bmp", "1", "2"),
            "CVC-300/gtlumen/1.bmp": encode("mask", "l", ".bmp"),
            **pairs("CVC-612/bbdd/{}.bmp", "CVC-612/gtpolyp/{}.tif", "1", "7"),
        },
        {"all": ["1", "2"]},
    ),
    "cvc300-pranet": ("cvc300", PRANET, {"pranet_test": ["149"]}),
    "etis-official": (
        "etis",
        pairs("ETIS-LaribPolypDB/{}.tif", "Ground Truth/p{}.tif", "1", "2"),
        {"all": ["1", "2"]},
    ),
    "etis-pranet": ("etis", PRANET, {"pranet_test": ["1", "3"]}),
    "isic2016-official": (
        "isic2016",
        isic(
            "ISBI2016_ISIC_Part1_{}_Data",
            "ISBI2016_ISIC_Part1_{}_GroundTruth",
            {"Training": "ISIC_0000001", "Test": "ISIC_0000003"},
            "_Segmentation",
        ),
        {"train": ["ISIC_0000001"], "test": ["ISIC_0000003"]},
    ),
    "isic2017-official": (
        "isic2017",
        {
            **isic("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", FOLDERS_2017),
            "ISIC-2017_Training_Data/ISIC_0000001_superpixels.png": NOISE,
            "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": b"image_id,age\n",
            "ISIC-2017_Training_Part2_GroundTruth/ISIC_0000001_features.json": b"{}",
        },
        OFFICIAL_SPLITS,
    ),
    "isic2018-official": (
        "isic2018",
        {
            **isic("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", FOLDERS_2018),
            "ISIC2018_Task1-2_Training_Input/ATTRIBUTION.txt": b"thanks",
            "ISIC2018_Task2_Training_GroundTruth_v3/ISIC_0000001_attribute_streaks.png": NOISE,
        },
        OFFICIAL_SPLITS,
    ),
    "isic2018-plain": (
        "isic2018",
        {
            **pairs("images/{}.jpg", "masks/{}_segmentation.png", "ISIC_0000001", "ISIC_0000002"),
            "splits/repo_train.txt": b"ISIC_0000001\n",
            "splits/repo_test.txt": b"ISIC_0000002\n",
            "splits/some_ids.txt": b"ISIC_0000002\n\n",
        },
        {"repo_train": ["ISIC_0000001"], "repo_test": ["ISIC_0000002"], "some_ids": ["ISIC_0000002"]},
    ),
    "ph2-official": (
        "ph2",
        {
            **pairs(
                "PH2 Dataset images/{}/{}_Dermoscopic_Image/{}.bmp",
                "PH2 Dataset images/{}/{}_lesion/{}_lesion.bmp",
                "IMD002",
                "IMD003",
            ),
            "PH2 Dataset images/IMD002/IMD002_roi/IMD002_R1_Label3.bmp": encode("mask", "r", ".bmp"),
            "PH2_dataset.txt": b"|| Name ||",
        },
        {"all": ["IMD002", "IMD003"]},
    ),
}


def write_folder(files, folder):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(files, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
            folder, _, last = name.rpartition("/")
            archive.writestr(f"__MACOSX/{folder}/._{last}", b"junk")
    return path


def unpacked(files, folder):
    return write_folder(files, folder / "download")


def nested(files, folder):
    write_folder(files, folder / "download" / "some folder" / "deeper")
    return folder / "download"


def one_zip(files, folder):
    return write_zip(files, folder / "download.zip")


def zip_for_each_folder(files, folder):
    for top in {name.split("/")[0] for name in files}:
        part = {name: content for name, content in files.items() if name.split("/")[0] == top}
        write_zip(part, folder / "download" / f"{Path(top).stem}.zip")
    return folder / "download"


def zip_beside_its_files(files, folder):
    write_zip(files, folder / "download" / "archive.zip")
    return write_folder(files, folder / "download")


FORMS = (unpacked, nested, one_zip, zip_for_each_folder, zip_beside_its_files)
