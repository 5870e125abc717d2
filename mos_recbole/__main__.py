"""`python -m mos_recbole`: the same as `mos-recbole`."""

import sys

from mos_recbole.cli import main

if __name__ == "__main__":
    sys.exit(main())
