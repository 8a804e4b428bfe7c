"""Write .ci/hashes.txt, the archives that `.ci/run` installs for the tests: `.venv/bin/python .ci/hashes.py`.

On Linux x86-64 with Python 3.11, whenever constraints.txt has changed. pip resolves and installs nothing. Other
platforms and Pythons have other archives: there the versions alone are fixed, by constraints.txt.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = "# Of Linux x86-64 and Python 3.11. Written by .ci/hashes.py; pip takes it with --require-hashes.\n"


def resolved() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        install = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
        command = [*install, "--report", str(report), "-c", "constraints.txt", ".[test]"]
        subprocess.run(command, cwd=ROOT, check=True)
        return json.loads(report.read_text())


def lines(report: dict) -> list[str]:
    """A requirement with its hash for everything but the project itself, which is a folder, and pip, which is there."""
    found = []
    for each in report["install"]:
        archive = each["download_info"].get("archive_info")
        name, version = each["metadata"]["name"].lower().replace("_", "-"), each["metadata"]["version"]
        if archive and name != "pip":
            found.append(f"{name}=={version} --hash=sha256:{archive['hashes']['sha256']}\n")
    return sorted(found)


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text()) if sys.argv[1:] else resolved()
    (ROOT / ".ci" / "hashes.txt").write_text(HEADER + "".join(lines(report)))
