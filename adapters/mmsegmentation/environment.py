"""What mmseg needs before it can be imported: supported versions, and mmcv's compiled ops or a stand-in for them."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from sdi_plugin import frameworks

_CURE = frameworks.cure("mmseg")
_UPSTREAM = next(package for package in frameworks.LIBRARIES if package.distribution == "mmcv-lite")


def prepare() -> None:
    """Check the versions, and put a stand-in for `mmcv._ext` in place where mmseg fails to import without it.

    Raises:
        ImportError: mmengine, mmcv, mmseg or what these import is missing, or has an unsupported version.
    """
    for name in ("mmengine", "mmcv", "mmseg"):
        module: Any = _import(name)
        frameworks.check(name, module.__version__)
        if name == "mmcv" and _UPSTREAM.supports(module.__version__):  # the fork's mmseg does without compiled ops
            _provide_ops()
    _import("mmseg.models")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # mmseg imports ftfy and regex without requiring them, and mmengine pkg_resources of setuptools below 82.
        raise ImportError(f"sdi_plugin.adapters.mmsegmentation needs {error.name} to import {name}. {_CURE}") from error
    except AssertionError as error:  # how mmseg says that it does not fit the installed mmcv or mmengine
        raise ImportError(f"sdi_plugin.adapters.mmsegmentation: {error} {_CURE}") from error


def _provide_ops() -> None:
    try:
        importlib.import_module("mmcv.ops")
    except ModuleNotFoundError as error:
        if error.name != "mmcv._ext":
            raise
        sys.modules["mmcv._ext"] = _MissingOps("mmcv._ext")
        importlib.import_module("mmcv.ops")


class _MissingOps(ModuleType):
    """Stands in for mmcv's compiled ops, which several modules of mmseg import whether they use them or not."""

    def __init__(self, name: str):
        super().__init__(name, "Stand-in of sdi_plugin for the compiled ops, which mmcv-lite lacks.")
        # mmengine asks for the spec, and takes one without a loader to mean mmcv-lite, which is right.
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise RuntimeError(
                f"The op {name} needs the full mmcv, got mmcv-lite. Install mmcv 2.1 for your torch and CUDA: "
                "mim install 'mmcv>=2.1,<2.2'"
            )

        return missing
