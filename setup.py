"""What pyproject.toml cannot say: an extension that the install does without where it cannot be built, and the folder
.mim, in which MMSegmentation's `mim` looks for a package's configs and scripts."""

import shutil
from pathlib import Path

from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_py import build_py


class BuildWithMim(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            mim = Path(self.build_lib, "sdi_plugin", ".mim")
            shutil.rmtree(mim, ignore_errors=True)
            skip = shutil.ignore_patterns("model-index.yml", "__pycache__")
            shutil.copytree("configs", mim / "configs", ignore=skip)
            shutil.copytree("adapters/mmsegmentation/tools", mim / "tools", ignore=skip)
            shutil.copy("configs/model-index.yml", mim)


CSRC = "sdi_plugin/ops/csrc"

setup(
    cmdclass={"build_py": BuildWithMim},
    ext_modules=[
        Extension(
            "sdi_plugin.ops._kernel",  # loaded with ctypes: a plain C ABI, no headers of Python or torch
            sorted(glob(f"{CSRC}/*.cpp")),
            depends=sorted(glob(f"{CSRC}/*.h")),  # what a source distribution carries, too
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ],
)
