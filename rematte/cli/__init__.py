"""The command line."""

from rematte.cli.app import main

__all__ = ["main"]
