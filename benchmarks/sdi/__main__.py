"""`python -m benchmarks.sdi`."""

import sys

from benchmarks.sdi.command import main

sys.exit(main())
