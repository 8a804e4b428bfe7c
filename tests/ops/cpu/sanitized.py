"""Builds of the C++ kernel that watch its memory, its arithmetic and its threads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[3] / "sdi_plugin" / "ops" / "cpu" / "csrc"
FLAGS = {
    "address-and-undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    # The thread sanitizer knows threads of the standard library, not those of OpenMP.
    "thread": ["-DSDI_STD_THREADS", "-pthread", "-fsanitize=thread"],
}
RUNTIMES = {"address-and-undefined": "libasan.so", "thread": "libtsan.so"}


def run(kind: str, arguments: list[str], folder: Path, **options) -> subprocess.CompletedProcess[str]:
    """Run Python on a kernel that is built in `folder`; an error that the sanitizer finds ends it.

    Args:
        kind: of `FLAGS`.
        options: of `subprocess.run`.
    """
    if not sys.platform.startswith("linux") or shutil.which("g++") is None:
        pytest.skip("needs g++, and sanitizers that are preloaded as on Linux")
    kernel = folder / "kernel.so"
    flags = ["-std=c++17", "-O1", "-g1", "-fPIC", "-Wno-psabi", *FLAGS[kind]]
    for source in sorted(CSRC.glob("*.cpp")):
        subprocess.run(["g++", *flags, "-c", str(source), "-o", str(folder / f"{source.stem}.o")], check=True)
    subprocess.run(["g++", *FLAGS[kind], "-shared", "-o", str(kernel), *map(str, folder.glob("*.o"))], check=True)
    # Python and torch are not instrumented; the runtimes need the C++ library beside them.
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in (RUNTIMES[kind], "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "SDI_PLUGIN_KERNEL": str(kernel),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter leaks by itself
        "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1",
    }
    same_addresses = ["setarch", "-R"] if kind == "thread" and shutil.which("setarch") else []
    command = [*same_addresses, sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)
