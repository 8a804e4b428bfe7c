"""A command of nnU-Net in a process that knows the trainers and planners of this package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from sdi_plugin.cli.errors import CommandError

# The commands of nnunetv2 2.6 to 2.8 that look classes up by name.
_SEARCHING = (
    "nnunetv2.run.run_training",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.experiment_planning.plan_and_preprocess_api",
    "nnunetv2.utilities.find_objects",
)


def run(name: str, arguments: list[str]) -> None:
    """Run nnU-Net's command of that name in this process.

    Raises:
        CommandError: nnU-Net has no such command.
    """
    commands = {c.name: c for c in metadata.entry_points(group="console_scripts") if c.value.startswith("nnunetv2.")}
    if name not in commands:
        raise CommandError(f"expected one of {', '.join(sorted(commands)) or 'no commands'}, got {name!r}.")
    register()
    sys.argv = [name, *arguments]
    commands[name].load()()


def register() -> None:
    """Make nnU-Net's searches in this process find the classes of this package."""
    from sdi_plugin.adapters.nnunet import planner, variants

    known = (variants, planner)
    for module_name in _SEARCHING:
        try:
            module: Any = importlib.import_module(module_name)
        except ModuleNotFoundError:  # a command of another version
            continue
        if hasattr(module, "recursive_find_python_class"):
            module.recursive_find_python_class = _knowing(known, module.recursive_find_python_class)


def _knowing(modules: Sequence[Any], search: Callable[..., Any]) -> Callable[..., Any]:
    def find(folder: str, class_name: str, *arguments: Any, **named: Any) -> Any:
        for module in modules:
            if hasattr(module, class_name):
                return getattr(module, class_name)
        return search(folder, class_name, *arguments, **named)

    return find
