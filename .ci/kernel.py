"""Load an installed wheel's kernel; with the argument `run`, also run it beside the reference, on torch's OpenMP."""

import ctypes
import importlib.util
import pathlib
import platform
import sys

package = pathlib.Path(str(importlib.util.find_spec("sdi_plugin").origin)).parent
assert "site-packages" in str(package), package
kernel = ctypes.CDLL(str(package / "ops" / "cpu" / "_kernel.so"))
done = f"Python {platform.python_version()}: kernel of ABI {kernel.sdi_abi()} loaded"
if sys.argv[1:] == ["run"]:
    import torch

    from sdi_plugin import ops
    from sdi_plugin.ops import reference

    found = ops.backends()["cpu"]
    assert found["available"], found
    torch.manual_seed(0)
    torch.set_num_threads(2)
    xs = [torch.randn(1, 8, 33, 20).double(), torch.randn(1, 8, 17, 10).double()]
    weights, biases = list(torch.randn(4, 8, 8, 3, 3).double()), [torch.ones(8).double()] * 4
    outs = ops.resize_smooth_multiply_stage(xs, weights, biases, [0, 1])
    for out, expected in zip(outs, reference.resize_smooth_multiply_stage(xs, weights, biases, [0, 1])):  # noqa: B905
        torch.testing.assert_close(out, expected)
    with open("/proc/self/maps") as maps:
        openmps = {line.split()[-1] for line in maps if "omp" in line.rpartition("/")[2]}
    assert len(openmps) == 1, openmps
    done += f" and run on {found['isa']} with torch {torch.__version__}, {pathlib.Path(openmps.pop()).name}"
print(done)
