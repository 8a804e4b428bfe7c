"""Every Python block of every document runs; the blocks of a page share their names, as a reader would paste them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.docs.pages import PAGES, ROOT, Block, blocks, name
from tests.docs.stand_ins import provide

SNIPPETS = {page: [block for block in blocks(page) if block.language == "python"] for page in PAGES}
FRAMEWORKS = {"smp": "segmentation_models_pytorch", "mmsegmentation": "mmengine", "nnunet": "nnunetv2"}


# mmseg's inferencer makes a visualizer without a folder, and mmengine says so, whatever the caller does.
@pytest.mark.filterwarnings("ignore:Failed to add .*LocalVisBackend:UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if SNIPPETS[page]], ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    _skip_without_framework(SNIPPETS[page])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    names = {"__name__": "snippet"}
    for block in SNIPPETS[page]:
        provide(block.code, tmp_path)
        if block.title:
            _build_config(tmp_path / "configs" / block.title, block)
        else:
            exec(_compiled(block), names)


def _skip_without_framework(page_blocks: Sequence[Block]) -> None:
    for adapter, framework in FRAMEWORKS.items():
        if any(f"sdi_plugin.adapters.{adapter}" in block.code for block in page_blocks):
            pytest.importorskip(framework)


def _compiled(block: Block):
    # An error's traceback names the page and its line.
    return compile("\n" * (block.line - 1) + block.code, block.page, "exec", dont_inherit=True)


def _build_config(path: Path, block: Block) -> None:
    """A config of MMSegmentation: mmengine reads it, mmseg builds its model, and the model has logits for an image."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    import sdi_plugin.adapters.mmsegmentation  # noqa: F401  before mmseg

    from mmseg.registry import MODELS

    path.write_text(block.code)
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope("mmseg"), torch.no_grad():
        logits = MODELS.build(config.model).eval()(torch.randn(1, 3, 64, 96))
    assert logits.shape[:2] == (1, config.model.decode_head.get("out_channels", config.model.decode_head.num_classes))
