"""The command line."""

import sys

try:
    from rematte.cli.app import main
except KeyboardInterrupt:  # as soon as it was started
    print("rematte: interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]
