"""Runs the trials of a sweep file by Ray Tune, and writes tables and figures; see --help."""

import sys

from mos_recbole.cli import sweep_main

if __name__ == "__main__":
    sys.exit(sweep_main())
