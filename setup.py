"""What pyproject.toml cannot express.

An optional extension: if it cannot be built, the package is installed without it. The folder .mim, in which
MMSegmentation's `mim` looks for a package's configs and scripts. Files at the top of site-packages, through which
nnU-Net finds the trainers (`sdi-plugin nnunet status` explains). Editable installs leave out the last two.
"""

import shutil
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

# The scripts of mmseg that `mim train`, `mim test` and `mim run` find under this package's name.
TOOLS = ("train", "test", "get_flops", "browse_dataset", "print_config", "confusion_matrix", "publish_model")
CSRC = "sdi_plugin/ops/cpu/csrc"
STARTUP = sorted(path for path in Path("adapters/nnunet/startup").iterdir() if path.is_file())


class BuildForFrameworks(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib, "sdi_plugin", ".mim")
        shutil.rmtree(mim, ignore_errors=True)
        skip = shutil.ignore_patterns("model-index.yml", "__pycache__")
        shutil.copytree("configs", mim / "configs", ignore=skip)
        (mim / "tools").mkdir()
        for name in TOOLS:
            shutil.copy("adapters/mmsegmentation/tools/script.py", mim / "tools" / f"{name}.py")
        shutil.copy("configs/model-index.yml", mim)
        for path in STARTUP:
            self.copy_file(str(path), str(Path(self.build_lib, path.name)))

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(Path(self.build_lib, path.name)) for path in STARTUP]


setup(
    cmdclass={"build_py": BuildForFrameworks},
    ext_modules=[
        Extension(
            "sdi_plugin.ops.cpu._kernel",  # loaded with ctypes: a plain C ABI, no headers of Python or torch
            sorted(glob(f"{CSRC}/*.cpp")),
            depends=sorted(glob(f"{CSRC}/*.h")),  # also included in source distributions
            language="c++",
            # Without errno and traps, square roots and selections between two results can be vectorised.
            extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ],
)
