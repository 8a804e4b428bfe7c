"""`.venv/bin/python .ci/frameworks.py [WORD]`: the tests of each adapter with every version of its framework.

Torch and all else come from .venv: a version is installed alone, into a folder that is first on the path. WORD limits
the versions to those whose requirements have it. Results go to runs/reliability/frameworks.json.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reliability  # noqa: E402
from sdi_plugin import frameworks  # noqa: E402

NNUNET, SLOW = "tests/adapters/nnunet", ["-m", "slow"]
CELLS: tuple[tuple[str, list[str]], ...] = (
    ("segmentation-models-pytorch==0.5.*", ["tests/adapters/smp"]),
    ("segmentation-models-pytorch==0.6.*", ["tests/adapters/smp"]),
    ("nnunetv2==2.8.*", [NNUNET]),
    ("mmsegmentation==1.2.2", ["tests/adapters/mmsegmentation"]),
    # These tests install the version themselves. nnU-Net before 2.8 reads the names of its folders when it is imported:
    # a step and a prediction run in a process of their own.
    ("nnunetv2 2.7.0", [*SLOW, f"{NNUNET}/test_versions.py", "-k", "2.7.0"]),
    ("nnunetv2 2.6.2", [*SLOW, f"{NNUNET}/test_versions.py", "-k", "2.6.2"]),
    ("onedl-mmsegmentation 1.4.2", [*SLOW, "tests/adapters/mmsegmentation/test_fork.py"]),
)


def main(word: str = "") -> int:
    failed = 0
    for requirement, tests in CELLS:
        if word not in requirement:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            packages = installed(requirement, Path(folder)) if "==" in requirement else requirement
            path = os.pathsep.join([folder, str(ROOT)])
            command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
        printed = done.stdout.decode(errors="replace").strip()
        result = printed.splitlines()[-1].rpartition(" in ")[0]
        print(printed if done.returncode else f"{packages}: {result}", flush=True)
        failed += done.returncode != 0
        reliability.note(
            ROOT / "runs" / "reliability" / "frameworks.json",
            packages,
            round(time.monotonic() - begun, 1),
            python=platform.python_version(),
            packages=f"{packages}, torch {frameworks.version('torch')}",
            result=result,
        )
    return 1 if failed else 0


def installed(requirement: str, folder: Path) -> str:
    """Install one distribution alone; its name and version."""
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), requirement], check=True)
    (found,) = folder.glob("*.dist-info")
    return found.stem.replace("-", " ").replace("_", "-")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
