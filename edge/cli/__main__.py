"""`python -m edge.cli`: the command `portal` where no script is installed."""

import sys

from edge.cli import main

sys.exit(main())
