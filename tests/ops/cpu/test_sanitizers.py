"""The op's tests again, on builds of the C++ kernel that watch its memory, its arithmetic and its threads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "sdi_plugin" / "ops" / "cpu" / "csrc"
SOURCES = sorted(CSRC.glob("*.cpp"))
FLAGS = {
    "address-and-undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    # The thread sanitizer knows threads of the standard library, not those of OpenMP.
    "thread": ["-DSDI_STD_THREADS", "-pthread", "-fsanitize=thread"],
}
RUNTIMES = {"address-and-undefined": "libasan.so", "thread": "libtsan.so"}
TESTS = "(twice and not bf16 and not large) or axis_by_axis or stage or layout or concurrent or bits"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sanitizers are preloaded as on Linux")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to build with")
@pytest.mark.parametrize("kind", FLAGS)
def test_the_ops_tests_are_clean(kind, tmp_path):
    kernel = tmp_path / "kernel.so"
    flags = ["-std=c++17", "-O1", "-g1", "-fPIC", "-Wno-psabi", *FLAGS[kind]]
    for source in SOURCES:
        subprocess.run(["g++", *flags, "-c", str(source), "-o", str(tmp_path / f"{source.stem}.o")], check=True)
    subprocess.run(["g++", *FLAGS[kind], "-shared", "-o", str(kernel), *map(str, tmp_path.glob("*.o"))], check=True)
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
    files = [str(HERE / "test_kernel.py"), *(str(HERE.parent / f"test_{name}.py") for name in ("attend", "library"))]
    command = [*same_addresses, sys.executable, "-m", "pytest", "-q", "-s", *files, "-k", TESTS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout
