"""The built kernel: one file for every Python and torch, on any Linux since glibc 2.28, on torch's own threads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdi_plugin.ops import cpu

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")

# manylinux_2_28 allows these libraries, and their symbols up to these versions.
LIBRARIES = {"libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}


def test_it_links_what_every_linux_has_and_no_openmp():
    from elftools.elf.elffile import ELFFile

    with Path(cpu.library._name).open("rb") as file:
        elf: Any = ELFFile(file)
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        versions = {
            auxiliary.name
            for _, auxiliaries in elf.get_section_by_name(".gnu.version_r").iter_versions()
            for auxiliary in auxiliaries
        }
    assert needed <= LIBRARIES
    for name, _, number in (version.partition("_") for version in versions):
        assert tuple(map(int, number.split("."))) <= NEWEST[name], (name, number)


@pytest.mark.parametrize("order", ["torch, sdi_plugin", "sdi_plugin, torch"])
def test_a_process_has_one_openmp(order):
    code = (
        f"import {order}; from sdi_plugin import SDISkip\n"
        "torch.set_num_threads(2)\n"
        "SDISkip([4, 8], 16).eval()([torch.ones(1, 4, 33, 33), torch.ones(1, 8, 17, 17)])\n"
        "paths = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.rpartition('/')[2]}\n"
        "raise SystemExit(len(paths) != 1 and str(paths))"
    )
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_without_gnus_interface_in_torch_the_reference_serves(monkeypatch):
    monkeypatch.setattr(cpu, "_team", lambda: None)
    library, reason = cpu._load()
    assert library is None
    assert "this torch has no GOMP_parallel" in reason
