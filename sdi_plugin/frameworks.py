"""The supported versions of torch and of every framework, in one place.

A test compares them with pyproject.toml's extras: an adapter accepts the versions that its extra installs.
"""

import platform
import re
from dataclasses import dataclass
from importlib import metadata

from sdi_plugin import torch_version

TORCH = ">=" + ".".join(map(str, torch_version.OLDEST))


@dataclass(frozen=True)
class Package:
    """A distribution of the package index.

    Attributes:
        module: the module that it installs; a framework and its fork share one.
        versions: the supported versions, as in a requirement.
        extra: the extra of sdi-plugin to which it belongs.
        adapter: the module that uses it.
    """

    distribution: str
    module: str
    versions: str
    extra: str
    adapter: str

    def supports(self, version: str) -> bool:
        """Whether a version is in the range. Only leading numbers count: 2.8.1 for 2.8.1+cpu, 0.7 for 0.7.0rc1."""
        return all(_holds(version, *clause) for clause in re.findall(r"(>=|<|==)([\d.]+)", self.versions))


_SMP = ("smp", "sdi_plugin.adapters.smp")
_MMSEG = ("mmseg", "sdi_plugin.adapters.mmsegmentation")
_NNUNET = ("nnunet", "sdi_plugin.adapters.nnunet")

FRAMEWORKS = (
    Package("segmentation-models-pytorch", "segmentation_models_pytorch", ">=0.5,<0.7", *_SMP),
    Package("mmsegmentation", "mmseg", "==1.2.2", *_MMSEG),
    Package("onedl-mmsegmentation", "mmseg", ">=1.4,<1.5", *_MMSEG),  # the maintained fork; no extra installs it
    Package("nnunetv2", "nnunetv2", ">=2.6,<2.9", *_NNUNET),
)
# The libraries under MMSegmentation; the fork's mmengine has the versions of mmengine.
LIBRARIES = (
    Package("mmengine", "mmengine", ">=0.10.7,<0.11", *_MMSEG),
    Package("mmcv-lite", "mmcv", ">=2.1,<2.2", *_MMSEG),
    Package("onedl-mmcv", "mmcv", ">=2.3,<2.4", *_MMSEG),
)

_RECORDED = ("torch", "torchvision", "timm", "numpy", "safetensors", "triton")


def versions() -> dict[str, str | None]:
    """What `info` shows and checkpoints record: the versions of this package, Python and the libraries under it."""
    installed = {name: version(name) for name in _RECORDED}
    return {"sdi-plugin": version("sdi-plugin"), "python": platform.python_version(), **installed}


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check(module: str, version: str) -> None:
    """Raise an ImportError if this version of the module is not supported for any of its distributions."""
    packages = [package for package in (*FRAMEWORKS, *LIBRARIES) if package.module == module]
    if any(package.supports(version) for package in packages):
        return
    ranges = " or ".join(package.versions for package in packages)
    raise ImportError(f"{packages[0].adapter}: expected {module} {ranges}, got {version}. {cure(packages[0].extra)}")


def cure(extra: str) -> str:
    """What to do if a framework is missing or its version is not supported."""
    return f"Install a supported version: pip install 'sdi-plugin[{extra}]'"


def _holds(version: str, relation: str, bound: str) -> bool:
    found, wanted = _numbers(version), _numbers(bound)
    return {"==": found == wanted, ">=": found >= wanted, "<": found < wanted}[relation]


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
