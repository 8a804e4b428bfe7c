"""The trainers for other numbers of epochs, under nnU-Net's naming: nnUNetTrainerUNetV2_5epochs and so on."""

from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.adapters.nnunet.trainer_pvt import nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 300, 500, 750, 1000, 2000, 4000, 8000)


def _for_epochs(trainer: type[nnUNetTrainerUNetV2], epochs: int) -> type[nnUNetTrainerUNetV2]:
    length = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    name = f"{trainer.__name__}_{length.replace(' ', '')}"
    # __module__ as if it were written out below, so that it can be pickled.
    return type(name, (trainer,), {"epochs": epochs, "__module__": __name__, "__doc__": f"Trains for {length}."})


TRAINERS: dict[str, type[nnUNetTrainerUNetV2]] = {
    trainer.__name__: trainer
    for base in (nnUNetTrainerUNetV2, nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain)
    for trainer in (base, *(_for_epochs(base, epochs) for epochs in EPOCHS))
}
globals().update(TRAINERS)
__all__ = list(TRAINERS)  # pyright: ignore[reportUnsupportedDunderAll]
