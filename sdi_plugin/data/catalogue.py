"""The data sets that `sdi-plugin data prepare` knows: where they come from, their terms, and their file layouts.

A path pattern names a file by its last folders, without its suffix: any folder may come before it, letters may be
upper or lower case. `{id}`, `{number}`, `{cju}` (Kvasir), `{isic}` and `{imd}` (PH2) stand for the id that an image and
its mask share, `*` for any letters within one folder's name.
"""

from __future__ import annotations

from dataclasses import dataclass

SEE_PAGE = "see the official page"


@dataclass(frozen=True)
class Part:
    """One folder of images, their masks, and the split that the folder stands for (None: no split)."""

    images: str
    masks: str
    split: str | None = None


@dataclass(frozen=True)
class Layout:
    """One way in which a data set is distributed; a source may lack some of the parts."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Dataset:
    """One data set. `images` counts the official release; `target` is what the masks outline.

    Examples:
        >>> from sdi_plugin import data
        >>> data.DATASETS["isic2018"].licence
        'CC-0 or CC-BY-NC, by image'
    """

    name: str
    title: str
    images: int
    target: str
    licence: str
    url: str
    citation: str
    layouts: tuple[Layout, ...]
    note: str = ""


def _pranet(test_folder: str, train_id: str | None = None) -> Layout:
    """PraNet's TrainDataset (Kvasir and ClinicDB mixed) and TestDataset, in the spellings in circulation."""
    parts = [
        Part(f"TestDataset/{test_folder}/{image}/{{id}}", f"TestDataset/{test_folder}/{mask}/{{id}}", "pranet_test")
        for image, mask in (("images", "masks"), ("image", "mask"))
    ]
    if train_id:
        parts += [
            Part(f"TrainDataset/{image}/{train_id}", f"TrainDataset/{mask}/{train_id}", "pranet_train")
            for image, mask in (("image", "mask"), ("images", "masks"))
        ]
    return Layout("PraNet's TrainDataset and TestDataset", tuple(parts))


def _official(*parts: tuple[str, str] | tuple[str, str, str]) -> Layout:
    return Layout("official", tuple(Part(*part) for part in parts))


def _isic(images: str, masks: str, **folders: str) -> tuple[Layout, ...]:
    """A challenge's archives, one pair per split; `{isic}` leaves out the *_superpixels.png of 2017."""
    parts = [
        (f"{images.format(folder)}/{{isic}}", f"{masks.format(folder)}/{{isic}}_segmentation", split)
        for split, folder in folders.items()
    ]
    return (_official(*parts),)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="kvasir",
            title="Kvasir-SEG",
            images=1000,
            target="polyp",
            licence="research and education; cite the paper",
            url="https://datasets.simula.no/kvasir-seg/",
            citation="D. Jha, P. H. Smedsrud, M. A. Riegler, P. Halvorsen, T. de Lange, D. Johansen, H. D. "
            "Johansen: Kvasir-SEG: A Segmented Polyp Dataset. MultiMedia Modeling (MMM) 2020, pp. 451-462. "
            "arXiv:1911.07069",
            layouts=(
                _pranet("Kvasir", "{cju}"),
                _official(("Kvasir-SEG/images/{id}", "Kvasir-SEG/masks/{id}")),
            ),
        ),
        Dataset(
            name="clinicdb",
            title="CVC-ClinicDB (CVC-612)",
            images=612,
            target="polyp",
            licence="research; cite the paper; " + SEE_PAGE,
            url="https://polyp.grand-challenge.org/CVCClinicDB/",
            citation="J. Bernal, F. J. Sánchez, G. Fernández-Esparrach, D. Gil, C. Rodríguez, F. Vilariño: "
            "WM-DOVA maps for accurate polyp highlighting in colonoscopy: Validation vs. saliency maps from "
            "physicians. Computerized Medical Imaging and Graphics 43, pp. 99-111, 2015",
            layouts=(
                _pranet("CVC-ClinicDB", "{number}"),
                _official(("TIF/Original/{number}", "TIF/Ground Truth/{number}")),
                _official(("PNG/Original/{number}", "PNG/Ground Truth/{number}")),
                _official(("Original/{number}", "Ground Truth/{number}")),
                Layout("EndoScene", (Part("CVC-612/bbdd/{number}", "CVC-612/gtpolyp/{number}"),)),
            ),
            note="frames of 29 videos: a random split leaks",
        ),
        Dataset(
            name="colondb",
            title="CVC-ColonDB",
            images=380,
            target="polyp",
            licence="research; cite the paper; " + SEE_PAGE,
            url="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
            citation="N. Tajbakhsh, S. R. Gurudu, J. Liang: Automated Polyp Detection in Colonoscopy Videos Using "
            "Shape and Context Information. IEEE Transactions on Medical Imaging 35(2), pp. 630-644, 2016",
            layouts=(
                _pranet("CVC-ColonDB"),
                _official(("CVC-ColonDB/images/{id}", "CVC-ColonDB/masks/{id}")),
                _official(("CVC-ColonDB/{number}", "CVC-ColonDB/p{number}")),
            ),
            note="380 is the set that papers evaluate on; the official page describes 300 frames. A random split leaks",
        ),
        Dataset(
            name="cvc300",
            title="CVC-300 (EndoScene)",
            images=300,
            target="polyp",
            licence="research; cite the paper; " + SEE_PAGE,
            url="https://pages.cvc.uab.es/CVC-Colon/index.php/databases/cvc-endoscenestill/",
            citation="D. Vázquez, J. Bernal, F. J. Sánchez, G. Fernández-Esparrach, A. M. López, A. Romero, M. "
            "Drozdzal, A. Courville: A Benchmark for Endoluminal Scene Segmentation of Colonoscopy Images. Journal "
            "of Healthcare Engineering, 2017. doi:10.1155/2017/4037190",
            layouts=(
                _pranet("CVC-300"),
                _official(("CVC-300/bbdd/{number}", "CVC-300/gtpolyp/{number}")),
            ),
            note="PraNet's CVC-300 test set is 60 of these images",
        ),
        Dataset(
            name="etis",
            title="ETIS-LaribPolypDB",
            images=196,
            target="polyp",
            licence="research; cite the paper; " + SEE_PAGE,
            url="https://polyp.grand-challenge.org/EtisLarib/",
            citation="J. Silva, A. Histace, O. Romain, X. Dray, B. Granado: Toward embedded detection of polyps "
            "in WCE images for early diagnosis of colorectal cancer. International Journal of Computer Assisted "
            "Radiology and Surgery 9(2), pp. 283-293, 2014",
            layouts=(
                _pranet("ETIS-LaribPolypDB"),
                _official(("ETIS*/{number}", "Ground Truth/p{number}")),
            ),
        ),
        Dataset(
            name="isic2016",
            title="ISIC 2016 challenge, part 1",
            images=1279,
            target="lesion",
            licence="CC-0",
            url="https://challenge.isic-archive.com/data/#2016",
            citation="D. Gutman, N. C. F. Codella, E. Celebi, B. Helba, M. Marchetti, N. Mishra, A. Halpern: Skin "
            "Lesion Analysis toward Melanoma Detection: A Challenge at the International Symposium on Biomedical "
            "Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration (ISIC). arXiv:1605.01397",
            layouts=_isic(
                "ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", train="Training", test="Test"
            ),
        ),
        Dataset(
            name="isic2017",
            title="ISIC 2017 challenge, part 1",
            images=2750,
            target="lesion",
            licence="CC-0",
            url="https://challenge.isic-archive.com/data/#2017",
            citation="N. C. F. Codella, D. Gutman, M. E. Celebi, B. Helba, M. A. Marchetti, S. W. Dusza, A. "
            "Kalloo, K. Liopyris, N. Mishra, H. Kittler, A. Halpern: Skin Lesion Analysis Toward Melanoma "
            "Detection: A Challenge at the 2017 International Symposium on Biomedical Imaging (ISBI), Hosted by "
            "the International Skin Imaging Collaboration (ISIC). arXiv:1710.05006",
            layouts=_isic(
                "ISIC-2017_{}_Data",
                "ISIC-2017_{}_Part1_GroundTruth",
                train="Training",
                val="Validation",
                test="Test_v2",
            ),
        ),
        Dataset(
            name="isic2018",
            title="ISIC 2018 challenge, task 1",
            images=3694,
            target="lesion",
            licence="CC-0 or CC-BY-NC, by image",
            url="https://challenge.isic-archive.com/data/#2018",
            citation="N. Codella, V. Rotemberg, P. Tschandl, M. E. Celebi, S. Dusza, D. Gutman, B. Helba, A. "
            "Kalloo, K. Liopyris, M. Marchetti, H. Kittler, A. Halpern: Skin Lesion Analysis Toward Melanoma "
            "Detection 2018: A Challenge Hosted by the International Skin Imaging Collaboration (ISIC). "
            "arXiv:1902.03368. And: P. Tschandl, C. Rosendahl, H. Kittler: The HAM10000 dataset. Scientific Data "
            "5, 180161, 2018",
            layouts=_isic(
                "ISIC2018_Task1-2_{}_Input",
                "ISIC2018_Task1_{}_GroundTruth",
                train="Training",
                val="Validation",
                test="Test",
            ),
        ),
        Dataset(
            name="ph2",
            title="PH2",
            images=200,
            target="lesion",
            licence=SEE_PAGE,
            url="https://www.fc.up.pt/addi/ph2%20database.html",
            citation="T. Mendonça, P. M. Ferreira, J. S. Marques, A. R. S. Marçal, J. Rozeira: PH2 - A "
            "dermoscopic image database for research and benchmarking. IEEE Engineering in Medicine and Biology "
            "Society (EMBC) 2013, pp. 5437-5440. doi:10.1109/EMBC.2013.6610779",
            layouts=(_official(("{imd}/{imd}_Dermoscopic_Image/{imd}", "{imd}/{imd}_lesion/{imd}_lesion")),),
        ),
    )
}
