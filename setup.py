"""The one thing that pyproject.toml cannot say: an extension that the install does without where it cannot be built."""

from setuptools import Extension, setup

CSRC = "sdi_plugin/ops/csrc"
HEADERS = ("backward", "forward", "kernel", "maps", "parallel", "prelude", "stage", "taps", "tile", "weights")

setup(
    ext_modules=[
        Extension(
            "sdi_plugin.ops._kernel",  # loaded with ctypes: a plain C ABI, no headers of Python or torch
            [f"{CSRC}/{name}.cpp" for name in ("dispatch", "kernel_avx2", "kernel_avx512", "kernel_baseline")],
            depends=[f"{CSRC}/{name}.h" for name in HEADERS],
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ]
)
