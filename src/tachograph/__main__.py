"""Lets `python -m tachograph` be the command."""

import sys

from tachograph.cli import main

sys.exit(main())
