"""`python -m rematte` is the command line."""

import sys

from rematte.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
