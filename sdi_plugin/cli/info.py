"""`sdi-plugin info`: what is installed, what it runs on, and which backends run the ops."""

import argparse
import json
import platform
from typing import Any

from sdi_plugin import frameworks
from sdi_plugin.frameworks import FRAMEWORKS, Package


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="versions, devices, op backends and frameworks",
        description="Show versions, devices, which backend runs the ops and why, and the frameworks found.",
        epilog="example: sdi-plugin info --json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: versions, devices, backends, frameworks")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    found = collect()
    print(json.dumps(found, indent=2) if arguments.json else _text(found))


def collect() -> dict[str, Any]:
    """Everything that `info` shows, and that a demo's report records."""
    import torch

    from sdi_plugin import ops

    devices = [
        {"device": "cpu", "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append({"device": f"cuda:{index}", "name": properties.name, "memory_bytes": properties.total_memory})
    return {
        "versions": frameworks.versions(),
        "devices": devices,
        "backends": ops.backends(),
        "frameworks": {package.distribution: _framework(package) for package in FRAMEWORKS},
    }


def _framework(package: Package) -> dict[str, Any]:
    version = frameworks.version(package.distribution)
    supported = version is not None and package.supports(version)
    expected = f"expected {package.distribution} {package.versions}"
    return {
        "version": version,
        "supported": supported,
        "reason": "not installed" if version is None else "" if supported else expected,
        "adapter": package.adapter,
    }


def _text(found: dict[str, Any]) -> str:
    lines = ["versions"]
    lines += [f"  {name:28} {version or 'not installed'}" for name, version in found["versions"].items()]
    lines += ["devices"]
    for device in found["devices"]:
        size = f"{device['threads']} threads" if "threads" in device else f"{device['memory_bytes'] / 2**30:.0f} GiB"
        lines += [f"  {device['device']:28} {device['name']}, {size}"]
    lines += ["op backends"]
    for name, backend in found["backends"].items():
        state = f"on {backend.get('isa', '')}".rstrip() if backend["available"] else f"off: {backend['reason']}"
        lines += [f"  {name:28} {state}"]
    lines += ["frameworks"]
    for name, framework in found["frameworks"].items():
        state = "supported: import " + framework["adapter"] if framework["supported"] else framework["reason"]
        lines += [f"  {name:28} {framework['version'] or '-':10} {state}"]
    return "\n".join(lines)
