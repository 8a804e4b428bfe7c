"""`python -m sdi_plugin.adapters.mmsegmentation TOOL ...`, see `tool`."""

import sys

from sdi_plugin.adapters.mmsegmentation import tool

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(f"python -m {__package__} TOOL ...: mmseg's {', '.join(sorted(tool.scripts()))}.")
    tool.run(sys.argv.pop(1))
