"""What pyproject.toml cannot say.

An extension that the install does without where it cannot be built; and files at the top of site-packages, by which
nnU-Net finds the trainers (`sdi-plugin nnunet status` explains). Editable installs leave the latter out.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

STARTUP = sorted(path for path in Path("adapters/nnunet/startup").iterdir() if path.is_file())


class BuildPyWithStartup(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            for path in STARTUP:
                self.copy_file(str(path), str(Path(self.build_lib, path.name)))

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(Path(self.build_lib, path.name)) for path in STARTUP]


setup(
    cmdclass={"build_py": BuildPyWithStartup},
    ext_modules=[
        Extension(
            "sdi_plugin.ops._kernel",  # loaded with ctypes: a plain C ABI, no headers of Python or torch
            ["sdi_plugin/ops/csrc/resize_smooth_multiply.cpp"],
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ],
)
