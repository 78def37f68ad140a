"""Describes weights by name, or those in a file."""

from pathlib import Path

from rematte.weights.download import expected_hash, resolve, sha256
from rematte.weights.registry import CODE_LICENCE, WEIGHTS, Weights, find


def describe(name_or_path: str | Path) -> str:
    """Describe weights in lines of "field: value", and fetch none for this.

    Only a file that is not a copy of named weights is loaded, which needs torch.

    Raises:
        WeightsError: If there is no such name or file, or it does not fit the network.
    """
    fields: dict[str, object] = {}
    licence = "not known"
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        path = find(name_or_path)
        entry: Weights | None = WEIGHTS[name_or_path]
        digest = expected_hash(WEIGHTS[name_or_path], path) or "not known yet"
    else:
        path = resolve(name_or_path, None)
        digest = sha256(path)
        entry = next((e for e in WEIGHTS.values() if e.sha256 == digest), None)
    if entry is not None:
        fields |= {"name": entry.name, "variant": entry.variant}
        fields["parameters"] = f"{entry.parameters:,}"
        fields |= {"origin": entry.origin, "quality": entry.quality}
    elif path is not None:
        fields |= _read_file(path)
        licence = str(fields.pop("licence", licence))
    fields["licence of the weights"] = entry.licence if entry else licence
    fields["licence of the code"] = CODE_LICENCE
    fields["file"] = path or f"not here; to fetch from {entry and entry.url}"
    fields["SHA-256"] = digest
    return "\n".join(f"{name}: {text}" for name, text in fields.items())


def _read_file(path: Path) -> dict[str, str]:
    from rematte.weights import checkpoint

    if checkpoint.is_torchscript(path):
        return {}
    state = checkpoint.read_state_dict(path)
    network = checkpoint.build(state, path, None)
    variant, refiner = checkpoint.recognise(state, path)
    parameters = f"{sum(p.numel() for p in network.parameters()):,}"
    found = {"variant": variant, "refiner": refiner, "parameters": parameters}
    return found | checkpoint.read_metadata(path)
