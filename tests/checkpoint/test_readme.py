"""The README.md of a network: what the hub and a reader see."""

import huggingface_hub
import pytest
import torch

import sdi_plugin
from sdi_plugin import UNetV2
from sdi_plugin.adapters import smp
from sdi_plugin.checkpoint import Card

CARD = Card(
    mean=(127.5,) * 3,
    std=(60.0,) * 3,
    size=(352, 320),
    labels=("background", "polyp"),
    threshold=0.4,
    metrics={"mean_dice": 0.91234},
    data={"name": "Kvasir", "licence": "research | only\n# <b>not</b> a heading"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(0)
    network = UNetV2("test_resnet", channels=4)
    network.save(out, CARD)
    return network, out


def test_a_folder_of_the_core_has_weights_card_and_readme(folder):
    network, out = folder
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.safetensors"]
    loaded = sdi_plugin.load(out)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), loaded.network.state_dict().values()))  # noqa: B905
    for name in ("mean", "std", "size", "labels", "threshold", "metrics", "data"):
        assert getattr(loaded.card, name) == getattr(CARD, name), name


def test_the_hub_and_a_reader_find_everything_that_the_card_says(folder):
    text = (folder[1] / "README.md").read_text()
    header = huggingface_hub.ModelCard(text).data.to_dict()
    assert (header["library_name"], header["pipeline_tag"]) == ("sdi-plugin", "image-segmentation")
    for line in (
        "| normalisation | pixels from 0 to 255, minus 127.5, 127.5, 127.5, divided by 60, 60, 60 |",
        "| size | resized to 352 x 320 |",
        "| labels | background, polyp |",
        "| threshold, for one channel | 0.4 |",
        "| mean_dice | 0.9123 |",
        "| name | Kvasir |",
        "| licence | research \\| only # &lt;b>not&lt;/b> a heading |",
        f"| sdi-plugin | {sdi_plugin.__version__} |",
    ):
        assert f"\n{line}\n" in text


def test_what_the_card_does_not_say_is_said_to_be_unknown(tmp_path):
    smp.UNetV2("tu-test_resnet", encoder_weights=None).save_pretrained(tmp_path / "without")
    assert "Images and labels" not in (tmp_path / "without" / "README.md").read_text()
    network = smp.UNetV2("tu-test_resnet", encoder_weights=None)
    network.card = Card()
    network.save_pretrained(tmp_path / "empty")
    assert "| normalisation | not known |" in (tmp_path / "empty" / "README.md").read_text()


def test_smps_own_readme_has_the_card_too(tmp_path):
    network = smp.UNetV2("tu-test_resnet", encoder_weights=None)
    network.card = CARD
    network.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert huggingface_hub.ModelCard(text).data.to_dict()["library_name"] == "segmentation-models-pytorch"
    assert "smp.from_pretrained" in text
    assert "Dataset name: Kvasir" in text
    assert '"mean_dice": 0.91234' in text
    assert "| size | resized to 352 x 320 |" in text
