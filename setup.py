"""What pyproject.toml cannot express.

An optional kernel for Linux: if it cannot be built, or if SDI_PLUGIN_PURE is 1, the package is installed without it. It
has neither Python's ABI nor torch's, so one wheel serves all versions of both. The folder .mim, in which
MMSegmentation's `mim` looks for a package's configs and scripts. Files at the top of site-packages, through which
nnU-Net finds the trainers (`sdi-plugin nnunet status` explains). Editable installs leave out the last two. A software
bill of materials in the wheel, as PEP 770 wants it.
"""

import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# The scripts of mmseg that `mim train`, `mim test` and `mim run` find under this package's name.
TOOLS = ("train", "test", "get_flops", "browse_dataset", "print_config", "confusion_matrix", "publish_model")
CSRC = "sdi_plugin/ops/cpu/csrc"
STARTUP = sorted(path for path in Path("adapters/nnunet/startup").iterdir() if path.is_file())


class BuildForFrameworks(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib, "sdi_plugin", ".mim")
        shutil.rmtree(mim, ignore_errors=True)
        skip = shutil.ignore_patterns("model-index.yml", "__pycache__")
        shutil.copytree("configs", mim / "configs", ignore=skip)
        (mim / "tools").mkdir()
        for name in TOOLS:
            shutil.copy("adapters/mmsegmentation/tools/script.py", mim / "tools" / f"{name}.py")
        shutil.copy("configs/model-index.yml", mim)
        for path in STARTUP:
            self.copy_file(str(path), str(Path(self.build_lib, path.name)))

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(Path(self.build_lib, path.name)) for path in STARTUP]


class BuildKernel(build_ext):
    def build_extensions(self):
        """A source on every core; setuptools would compile them in turn."""
        compile_in_turn = self.compiler.compile

        def compile_at_once(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(lambda source: compile_in_turn([source], **options), sources)
                return [file for files in compiled for file in files]

        self.compiler.compile = compile_at_once
        super().build_extensions()

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"  # without the version of Python


class Wheel(bdist_wheel):
    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])  # for any Python

    def write_wheelfile(self, wheelfile_base, *arguments, **options):
        super().write_wheelfile(wheelfile_base, *arguments, **options)
        file = Path(wheelfile_base, "sboms", "sdi-plugin.cdx.json")
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(bill_of_materials(self.distribution), indent=1) + "\n")


def bill_of_materials(distribution):
    """CycloneDX: the package, which contains no other's code, and what it and its extras ask an installer for."""
    name, version = distribution.get_name(), distribution.get_version()
    asked = {"": distribution.install_requires, **distribution.extras_require}
    needed = {}
    for extra, requirements in asked.items():
        for requirement in requirements:
            needed.setdefault(re.split(r"[^\w.-]", requirement)[0], []).append((extra, requirement))
    needed.pop(name, None)  # extras of extras
    own = f"pkg:pypi/{name}@{version}"
    licence = {"license": {"id": distribution.metadata.license_expression}}
    component = {
        "type": "library",
        "bom-ref": own,
        "name": name,
        "version": version,
        "purl": own,
        "licenses": [licence],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component},
        "components": [
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{each}",
                "name": each,
                "purl": f"pkg:pypi/{each}",
                "scope": "optional" if all(extra for extra, _ in uses) else "required",
                "properties": [
                    {"name": f"sdi-plugin:{extra or 'always'}", "value": requirement} for extra, requirement in uses
                ],
            }
            for each, uses in sorted(needed.items())
        ],
        "dependencies": [{"ref": own, "dependsOn": [f"pkg:pypi/{each}" for each in sorted(needed)]}],
    }


KERNEL = Extension(
    "sdi_plugin.ops.cpu._kernel",  # loaded with ctypes: a plain C ABI, no headers of Python or torch
    sorted(glob(f"{CSRC}/*.cpp")),
    depends=sorted(glob(f"{CSRC}/*.h")),  # also included in source distributions
    language="c++",
    # Without errno and traps, square roots and selections between two results can be vectorised.
    extra_compile_args=[
        *("-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wno-psabi"),
        *("-fno-math-errno", "-fno-trapping-math"),
    ],
    optional=True,
)

setup(
    cmdclass={"bdist_wheel": Wheel, "build_ext": BuildKernel, "build_py": BuildForFrameworks},
    ext_modules=[KERNEL] if sys.platform == "linux" and os.environ.get("SDI_PLUGIN_PURE") != "1" else [],
)
