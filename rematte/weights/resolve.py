"""Finds the file of weights that are given by a name or a path; needs no torch."""

from pathlib import Path

from rematte.errors import WeightsError
from rematte.weights.download import check_hash, download
from rematte.weights.registry import DEFAULT, FAST, VARIANTS, WEIGHTS, find

_USUAL = {"resnet50": "rvm-resnet50", "mobilenetv3_fast": FAST}


def resolve(name_or_path: str | Path | None, variant: str | None) -> Path:
    """Return the checked file of a name, or the file at a path.

    Args:
        name_or_path: A key of `WEIGHTS` or a file; None means the bundled weights of
            the variant, or "rvm-resnet50" where it is "resnet50".
        variant: The variant it must be, or None for any; what a file holds is not
            looked at.

    Raises:
        WeightsError: If there is no such name or file, or a download fails.
        ValueError: If there is no such variant.
    """
    if variant not in (None, *VARIANTS):
        raise ValueError(f"variant must be one of {VARIANTS} or None, got {variant!r}")
    if name_or_path is None:
        name_or_path = _USUAL.get(variant or "", DEFAULT)
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        entry = WEIGHTS[name_or_path]
        check_variant(entry.variant, variant, entry.name)  # before 100 MB are fetched
        path = find(entry.name) or download(entry.name)
        check_hash(entry, path)
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is neither a file nor a known name"
        raise WeightsError(
            f"weights {str(name_or_path)!r} {kind}; known names: {', '.join(WEIGHTS)}"
        )
    return path


def check_variant(variant: str, wanted: str | None, source: str | Path) -> None:
    """Raise a `WeightsError` unless the variant is the wanted one."""
    if wanted not in (None, variant):
        raise WeightsError(
            f"weights {source} are {variant}, but variant={wanted!r} was asked for; "
            f"leave variant out, or give weights of {wanted}"
        )
