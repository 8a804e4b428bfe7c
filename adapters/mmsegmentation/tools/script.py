"""A script of mmseg, run after the plugin's import; setup.py puts it into .mim/tools under each script's name."""

from pathlib import Path

from sdi_plugin.adapters.mmsegmentation.tool import run

run(Path(__file__).stem)
