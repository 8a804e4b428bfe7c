"""The one thing that pyproject.toml cannot say: an extension that the install does without where it cannot be built."""

from glob import glob

from setuptools import Extension, setup

CSRC = "sdi_plugin/ops/csrc"

setup(
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
    ]
)
