"""Trains and compares models: `python benchmarks/run.py --help`. The same as `mos-recbole run`."""

import sys

from mos_recbole.cli import run_main

if __name__ == "__main__":
    sys.exit(run_main())
