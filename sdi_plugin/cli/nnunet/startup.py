"""The files in site-packages by which Python, when it starts, tells nnU-Net where the trainers are."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

from sdi_plugin import atomic
from sdi_plugin.cli.errors import CommandError

FILES = ("_sdi_plugin_nnunet.py", "sdi_plugin_nnunet.pth", "sdi_plugin_nnunet.start")
OFF_SWITCH = "SDI_PLUGIN_NNUNET"
_VARIABLE = "nnUNet_extTrainer"


def enable() -> str:
    """Write the files, and enter them into the list by which pip uninstalls this package.

    Raises:
        CommandError: site-packages cannot be written to.
    """
    site, record = _site_packages()
    try:
        for name in FILES:
            atomic.write(site / name, (_adapter() / "startup" / name).read_bytes())
        _edit_record(record, add=True)
    except OSError as error:
        raise CommandError(f"{site}: could not be written: {error.strerror}. {_by_hand()}") from error
    return f"wrote {', '.join(FILES)} to {site}: new Python processes append to {_VARIABLE}\n{status()}"


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


def status() -> str:
    """Whether a new Python process finds the trainers, and why (not)."""
    site, _ = _site_packages()
    missing = [name for name in FILES if not (site / name).is_file()]
    value = os.environ.get(OFF_SWITCH)
    command = [sys.executable, "-c", f"import os; print(os.environ.get({_VARIABLE!r}, ''))"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    found = str(trainers_folder()) in seen.split(os.pathsep)
    try:
        version = metadata.version("nnunetv2")
    except metadata.PackageNotFoundError:
        version = "not installed: pip install 'sdi-plugin[nnunet]'"
    lines = [
        f"nnunetv2            {version}",
        f"start-up files      {f'missing in {site}' if missing else f'in {site}'}",
        f"{OFF_SWITCH:19} {'not set' if value is None else value}",
        f"{_VARIABLE:19} {seen or 'not set'}",
    ]
    if version.startswith(("2.6", "2.7")):
        lines.append("nnunetv2 before 2.8 does not read the variable. Use: sdi-plugin nnunet run nnUNetv2_train ...")
    elif found:
        lines.append("on: nnUNetv2_train ... -tr nnUNetTrainerUNetV2 finds its trainer")
    elif missing:
        lines.append(f"off: run `sdi-plugin nnunet enable`. {_by_hand()}")
    else:
        lines.append(f"off: {OFF_SWITCH} says so, or Python started without its site module. {_by_hand()}")
    return "\n".join(lines)


def trainers_folder() -> Path:
    """The folder that nnUNet_extTrainer is to name."""
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
    """pip removes what RECORD lists: so the files go when the package goes."""
    if record is None or not record.is_file():
        return
    with record.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row and row[0] not in FILES]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*rows, *([name, "", ""] for name in FILES if add)])
    atomic.write(record, text.getvalue().encode())
