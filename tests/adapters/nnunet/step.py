"""Run as a program against any supported nnU-Net: find a trainer, train one step, save, and predict from the folder.

python -m tests.adapters.nnunet.step FOLDER TRAINER
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch


def main(folder: Path, trainer_name: str) -> None:
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(folder)
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.run import run_training
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from sdi_plugin.cli.nnunet import command
    from tests.adapters.nnunet import plans as nnunet_plans

    command.register()
    plans: Any = nnunet_plans.plans("2d", data_identifier="none") | {"continue_training": False}
    preprocessed = folder / "Dataset001_Test"
    preprocessed.mkdir()
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "dataset.json").write_text(json.dumps(nnunet_plans.DATASET))
    upstream: Any = importlib.import_module(nnUNetTrainer.__module__)
    upstream.infer_dataset_class = lambda folder: None  # there are no data

    trainer: Any = run_training.get_trainer_from_args("1", "2d", 0, trainer_name, device=torch.device("cpu"))
    trainer.initialize()
    data = torch.randn(2, 1, *nnunet_plans.CASES["2d"][1])
    targets = [torch.randint(0, 2, (2, 1, *y.shape[2:])) for y in trainer.network(data)]
    trainer.train_step({"data": data, "target": targets})
    model = Path(trainer.output_folder_base)
    (model / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (model / "dataset.json").write_text(json.dumps(nnunet_plans.DATASET))
    trainer.save_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))

    predictor = predict_from_raw_data.nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    trainer.set_deep_supervision_enabled(False)
    found: Any = predictor.network
    with torch.no_grad():
        assert torch.equal(found.eval()(data), trainer.network.eval()(data))
    print(trainer_name, type(found).__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
