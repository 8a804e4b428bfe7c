"""--cfg-options of configs that name this adapter: keys that reach every place, and no name that nothing reads."""

import difflib
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from sdi_plugin.checkpoint.names import shorten

_ADAPTER = "sdi_plugin.adapters.mmsegmentation"
_MARK = "checked_by_sdi_plugin"
# What mmengine 0.10's Runner reads from a config besides its own arguments, and mmseg's tools and inference.
_READ_TOO = (
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
    "test_pipeline",
    "tta_model",
    "tta_pipeline",
)
# The keys that hold copies of a variable, and whether in reverse order: image_size is (height, width), mmcv's scale is
# (width, height), its crop_size and the preprocessor's size are (height, width).
_COPIES = {"data_root": {"data_root": False}, "image_size": {"crop_size": False, "scale": True, "size": False}}


def watch() -> None:
    """Make mmengine's `Config.merge_from_dict`, which takes --cfg-options, check them before it merges them.

    mmengine silently merges an option even where nothing reads it, and by then the variables of a config file, such as
    data_root, have been copied to where they are used. Here `data_root` and `image_size` reach all copies of their
    values, and a top-level name that nothing reads is an error; names further down are left to the classes that get
    them. The method is wrapped because mmengine offers a plugin no hook between the options and the tools that read the
    config. Configs that do not name the adapter in custom_imports are merged as usual.
    """
    merge = Config.merge_from_dict
    if _MARK in merge.__dict__:
        return

    @functools.wraps(merge)
    def merge_from_dict(self: Config, options: dict, *args: Any, **kwargs: Any) -> None:
        if _ADAPTER in (self.get("custom_imports") or {}).get("imports", ()):
            options = _spread(self, options)
        merge(self, options, *args, **kwargs)

    merge_from_dict.__dict__[_MARK] = True
    Config.merge_from_dict = merge_from_dict


def _spread(config: Config, options: dict) -> dict:
    """Write `data_root` and `image_size` to the copies of their old values, where the options can still replace them.

    Raises:
        ValueError: a name that nothing reads; an image_size that is not one or two whole numbers.
    """
    options = dict(options)
    if "image_size" in options:
        options["image_size"] = _size(options["image_size"])
    for name in dict.fromkeys(option.partition(".")[0] for option in options):
        _check_name(config, name)
        if name in options and name in _COPIES:
            _set_copies(config, name, options[name])
    return options


def _size(value: Any) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        raise ValueError(
            "--cfg-options: expected an image_size of one or two whole numbers > 0, height and width, got "
            f"{value!r}. Write image_size=256, or image_size='(256,320)'."
        )
    return sides


def _check_name(config: Config, name: str) -> None:
    read = _read(config)
    if name in read or (name in config and name in _COPIES):
        return
    if name not in config:
        places = [path for path, _, key in _entries(config, read) if key == name]
        close = difflib.get_close_matches(name, sorted({*read, *config}), 1)
        cure = (
            f" It is in the config as {shorten(places)}." if places else f" Did you mean {close[0]}?" if close else ""
        )
        raise ValueError(f"--cfg-options: expected names that the config has or mmengine reads, got {name}.{cure}")
    value = config[name]
    if not isinstance(value, str | list | tuple | dict):  # numbers may be equal by chance
        return
    if places := [path for path, node, key in _entries(config, read) if node[key] == value]:
        raise ValueError(
            f"--cfg-options: got {name}, a variable of the config file, whose value is copied when the file is loaded: "
            f"set {shorten(places)} instead."
        )


def _set_copies(config: Config, name: str, value: Any) -> None:
    old, keys = config[name], _COPIES[name]
    copies = [
        (node, key)
        for _, node, key in _entries(config, list(config))
        if key in keys and node[key] == (old[::-1] if keys[key] else old)
    ]
    if not copies:
        places = [path for path, _, key in _entries(config, _read(config)) if key in keys]
        raise ValueError(
            f"--cfg-options: got {name}, but nothing in the config has its value {old!r}. "
            f"Set {shorten(places)} instead."
        )
    for node, key in copies:
        node[key] = value[::-1] if keys[key] else value


def _read(config: Config) -> set[str]:
    """The top-level names of a config that mmengine and mmseg read."""
    names = {*inspect.signature(Runner.__init__).parameters, *_READ_TOO} - {"self", "cfg"}
    if "data_preprocessor" in config.get("model", {}):
        names.remove("data_preprocessor")  # then the Runner takes the model's own
    return names


def _entries(node: Any, names: Any = None, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(path, dict, key) of all entries below those names of a config."""
    if names is not None:
        for name in node:
            if name in names:
                yield from _entries(node[name], None, f"{name}.")
    elif isinstance(node, Mapping):
        for key in list(node):
            yield f"{path}{key}", node, key
            yield from _entries(node[key], None, f"{path}{key}.")
    elif isinstance(node, list | tuple):
        for number, item in enumerate(node):
            yield from _entries(item, None, f"{path}{number}.")
