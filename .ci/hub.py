"""Write sdi_plugin/ops as a kernel repository of the Hugging Face hub: `python .ci/hub.py OUT [KERNEL.so]`.

Such a kernel imports only torch, the standard library and itself, by relative imports, and registers its ops in a
namespace of its own, so that several versions fit in one process. OUT/build/torch-universal has the Triton kernels and
the reference, for every device; with KERNEL.so, as the wheel has it, OUT/build/torch-stable-abi24-cpu-... has it too,
for every torch, since it uses no ABI of torch. OUT/torch-ext, OUT/sdi_cpu and OUT/build.toml are their sources.
"""

import base64
import hashlib
import json
import platform
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPS = ROOT / "sdi_plugin" / "ops"
NAME, VERSION = "sdi", 0  # 0: the interface may still change
CARD = """---
license: apache-2.0
tags:
- kernels
---
# SDI, the skip connection of U-Net v2, as fused ops

`resize_smooth_multiply_stage`, `resize` and what else `sdi_plugin.ops` has (Peng, Sonka, Chen 2023, arXiv 2311.17791):
Triton kernels on GPUs, a C++ kernel on x86-64 CPUs, plain torch elsewhere. Python 3.10 or newer.

```python
from kernels import get_kernel

sdi = get_kernel("OWNER/sdi", version={version}, trust_remote_code=True)
sdi.backends()
```
"""


def main(out: Path, kernel: Path | None) -> None:
    # Not flops.py: its formulas are for torch's own counter, under the names of the package's ops.
    files = [file for file in sorted(OPS.rglob("*.py")) if file.name != "flops.py"]
    names = [file.relative_to(OPS).as_posix() for file in files]
    sources = {
        name: own(file.read_text(), name.count("/") + 1).encode() for name, file in zip(names, files, strict=True)
    }
    write(out / "build" / "torch-universal", "cuda", sources)
    if kernel is not None:
        variant = f"torch-stable-abi24-cpu-{platform.machine()}-linux"
        write(out / "build" / variant, "cpu", sources | {"cpu/_kernel.so": kernel.read_bytes()})
    for name, content in sources.items():
        put(out / "torch-ext" / NAME / name, content)
    shutil.copytree(OPS / "cpu" / "csrc", out / "sdi_cpu", dirs_exist_ok=True)
    put(out / "build.toml", BUILD.encode())
    put(out / "README.md", CARD.replace("{version}", str(VERSION)).encode())


OLDER = '''"""For versions of `kernels` that look for a folder of the kernel's name."""

import importlib.util
import sys
from pathlib import Path

_file = Path(__file__).parents[1] / "__init__.py"
_spec = importlib.util.spec_from_file_location(f"{__name__}_flat", _file)
_module = importlib.util.module_from_spec(_spec)
sys.modules[_module.__name__] = _module
_spec.loader.exec_module(_module)
globals().update({name: getattr(_module, name) for name in _module.__all__})
__all__ = _module.__all__
'''

OPS_MODULE = '''"""The namespace of this build's ops."""

import torch

ops = getattr(torch.ops, "{id}")


def add_op_namespace_prefix(op_name: str) -> str:
    return "{id}::" + op_name
'''

BUILD = f"""[general]
name = "{NAME}"
version = {VERSION}
license = "apache-2.0"
backends = ["cpu", "cuda", "rocm"]

[torch-noarch]

# The CPU kernel in sdi_cpu/ has a plain C ABI, and no binding of torch: .ci/hub.py of sdi-plugin puts the built one in
# build/torch-stable-abi24-cpu-*.
"""


def own(text: str, depth: int) -> str:
    """A module that is `depth` folders below the package's parent, with relative imports and the kernel's namespace."""
    text = re.sub(r"from sdi_plugin\.ops import", f"from {'.' * depth} import", text)
    text = re.sub(r"from sdi_plugin\.ops\.", f"from {'.' * depth}", text)
    prefix = f"from {'.' * depth}_ops import add_op_namespace_prefix"
    return re.sub(r'^(\w+ = )"sdi_plugin::(\w+)"', rf'{prefix}\n\n\1add_op_namespace_prefix("\2")', text, flags=re.M)


def write(folder: Path, backend: str, sources: dict[str, bytes]) -> None:
    """One build variant: what kernel-builder adds to the sources, and the hashes of its files."""
    id_ = f"_{NAME}_{backend}_{hashlib.sha256(b''.join(sources.values())).hexdigest()[:7]}"
    files = {
        **sources,
        "_ops.py": OPS_MODULE.replace("{id}", id_).encode(),
        f"{NAME}/__init__.py": OLDER.encode(),
    }
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        put(folder / name, content)
    digests = {name: base64.b64encode(hashlib.sha256(data).digest()).decode() for name, data in sorted(files.items())}
    metadata = {
        "name": NAME,
        "id": id_,
        "version": VERSION,
        "license": "apache-2.0",
        "python-depends": [],
        "backend": {"type": backend},
        "digest": {"algorithm": "sha256", "files": digests},
    }
    put(folder / "metadata.json", json.dumps(metadata, indent=2).encode())


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else None)
