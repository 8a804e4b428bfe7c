"""A folder of synthetic images, as `sdi-plugin demo --data` reads it."""

from sdi_plugin.cli.demo.images import lesion_image


def write_images(folder, count=10, size=40, splits=True):
    for kind in ("images", "masks", "splits"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        image, mask = lesion_image((7, i), size)
        image.save(folder / "images" / f"case{i}.png")
        mask.save(folder / "masks" / f"case{i}.png")
    if splits:
        (folder / "splits" / "train.txt").write_text("".join(f"case{i}\n" for i in range(count - 2)))
        (folder / "splits" / "test.txt").write_text(f"case{count - 2}\ncase{count - 1}\n")
    return folder
