"""The files in site-packages by which Python, when it starts, tells nnU-Net where the trainers are."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from sdi_plugin import files
from sdi_plugin.cli.errors import CommandError

FILES = ("_sdi_plugin_nnunet.py", "sdi_plugin_nnunet.pth", "sdi_plugin_nnunet.start")
OFF_SWITCH = "SDI_PLUGIN_NNUNET"
_VARIABLE = "nnUNet_extTrainer"
# The start-up line swallows its errors: called again, its function raises them.
_REPORT = f"""import json, os, sys
module, variable, error = sys.modules.get("_sdi_plugin_nnunet"), os.environ.get({_VARIABLE!r}, ""), ""
try:
    module and module.append()
except Exception as raised:
    error = f"{{type(raised).__name__}}: {{raised}}"
print(json.dumps([module is not None, variable, error]))"""


def enable() -> str:
    """Write the files, and add them to the list from which pip uninstalls this package.

    Raises:
        CommandError: site-packages cannot be written to, or Python does not read start-up files there.
    """
    site, record = _site_packages()
    missing = [name for name in FILES if not (site / name).exists()]
    try:
        for name in FILES:
            files.write(site / name, (_adapter() / "startup" / name).read_bytes())
        if not _start().read:
            for name in missing:
                (site / name).unlink()
            raise CommandError(f"{_not_read(site)} {_by_hand()}")
        _edit_record(record, add=True)
    except OSError as error:
        raise CommandError(f"{site}: could not be written: {error.strerror}. {_by_hand()}") from error
    return f"wrote {', '.join(FILES)} to {site}: new Python processes append to {_VARIABLE}\n{status()[0]}"


def disable() -> str:
    """Remove the files again.

    Raises:
        CommandError: site-packages cannot be written to.
    """
    site, record = _site_packages()
    there = [name for name in FILES if (site / name).exists()]
    try:
        for name in there:
            (site / name).unlink()
        _edit_record(record, add=False)
    except OSError as error:
        raise CommandError(f"{site}: could not be written: {error.strerror}. Set {OFF_SWITCH}=0 instead.") from error
    return f"removed {', '.join(there) or 'nothing'} from {site}\n{_by_hand()}"


def status() -> tuple[str, bool]:
    """What `status` prints, and whether nnU-Net in a new Python process finds the trainers."""
    site, _ = _site_packages()
    missing = [name for name in FILES if not (site / name).is_file()]
    value = os.environ.get(OFF_SWITCH)
    start = _start()
    try:
        version = metadata.version("nnunetv2")
    except metadata.PackageNotFoundError:
        version = ""
    reason = _why_off(version, start, site, missing)
    lines = [
        f"nnunetv2            {version or 'not installed'}",
        f"start-up files      {f'missing in {site}' if missing else f'in {site}'}",
        f"{OFF_SWITCH:19} {'not set' if value is None else value}",
        f"{_VARIABLE:19} {start.variable or 'not set'}",
        f"off: {reason}" if reason else "on: nnUNetv2_train ... -tr nnUNetTrainerUNetV2 finds its trainer",
    ]
    return "\n".join(lines), not reason


def _why_off(version: str, start: Start, site: Path, missing: list[str]) -> str:
    """Why nnU-Net does not find the trainers, and the cure; an empty string where it does."""
    if not version:
        return "nnU-Net is not installed: pip install 'sdi-plugin[nnunet]'"
    if version.startswith(("2.6.", "2.7.")):
        return "nnunetv2 before 2.8 does not read the variable. Use: sdi-plugin nnunet run nnUNetv2_train ..."
    if str(trainers_folder()) in start.variable.split(os.pathsep):
        try:
            importlib.import_module("sdi_plugin.adapters.nnunet")
        except ImportError as error:
            return str(error)
        return ""
    if missing:
        return f"run `sdi-plugin nnunet enable`. {_by_hand()}"
    if not start.read:
        return f"{_not_read(site)} {_by_hand()}"
    if start.error:
        return f"the start-up file failed: {start.error}. {_by_hand()}"
    if value := os.environ.get(OFF_SWITCH):
        return f"{OFF_SWITCH}={value} turns it off. {_by_hand()}"
    return f"the start-up file finds another sdi_plugin first, or none. {_by_hand()}"


def _not_read(site: Path) -> str:
    return (
        f"Python reads no start-up files in {site}, as it is on the path without being a site-packages folder of "
        f"{sys.prefix} (after pip install --target, say)."
    )


class Start(NamedTuple):
    """What a new Python process did when it started: whether it read the files, and what the variable is afterwards."""

    read: bool
    variable: str
    error: str


def _start() -> Start:
    lines = subprocess.run(_new_process(_REPORT), capture_output=True, text=True, check=True).stdout.splitlines()
    return Start(*json.loads(lines[-1]))


def _new_process(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def trainers_folder() -> Path:
    """The folder that nnUNet_extTrainer must name."""
    return _adapter() / "ext_trainer"


def _adapter() -> Path:
    spec = util.find_spec("sdi_plugin.adapters")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)), "nnunet")


def _by_hand() -> str:
    return f"By hand: export {_VARIABLE}={trainers_folder()}"


def _site_packages() -> tuple[Path, Path | None]:
    """Where this package is installed, and the RECORD of its files."""
    try:
        distribution = metadata.distribution("sdi-plugin")
    except metadata.PackageNotFoundError as error:
        raise CommandError(f"expected an installed sdi-plugin, found none. {_by_hand()}") from error
    records = [file for file in distribution.files or () if file.name == "RECORD"]
    return Path(str(distribution.locate_file(""))), Path(str(records[0].locate())) if records else None


def _edit_record(record: Path | None, *, add: bool) -> None:
    """pip removes what RECORD lists, so the files are removed with the package."""
    if record is None or not record.is_file():
        return
    with record.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and row[0] not in FILES]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*rows, *([name, "", ""] for name in FILES if add)])
    files.write(record, text.getvalue().encode())
