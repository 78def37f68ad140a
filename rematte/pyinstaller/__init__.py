"""Points PyInstaller to the hook for programs that use rematte."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folder of the hook, which PyInstaller finds by an entry point.

    Source:
        PyInstaller's manual, "Understanding PyInstaller Hooks".
    """
    return [str(Path(__file__).parent)]
