"""`python -m sdi_plugin`: the command `sdi-plugin`, if scripts are not on the PATH."""

import sys

from sdi_plugin.cli import main

sys.exit(main())
