"""`mim train sdi-plugin CONFIG`: mmseg's own training script."""

import runpy
from importlib.util import find_spec
from pathlib import Path

spec = find_spec("mmseg")
if spec is None or spec.origin is None:
    raise SystemExit("sdi-plugin needs mmsegmentation. Install it: pip install 'sdi-plugin[mmseg]'")
runpy.run_path(str(Path(spec.origin).parent / ".mim" / "tools" / Path(__file__).name), run_name="__main__")
