"""Notes on damaged data that reading passed over."""

from collections.abc import Mapping

# In `VideoReader.damaged`: the decoder filled in the missing parts of a packet.
CONCEALED = "concealed"


def describe_damage(damaged: Mapping[float, str]) -> list[str]:
    """Give the notes on damage, none if there was none.

    Args:
        damaged: `VideoReader.damaged`.
    """
    concealed = {time: "" for time, name in damaged.items() if name == CONCEALED}
    replaced = {time: name for time, name in damaged.items() if time not in concealed}
    kind = "image" if any(replaced.values()) else "packet"
    notes = {
        "the nearest frame, mostly the one before, is shown instead": replaced,
        "the decoder filled in what is missing; pictures may be lost there": concealed,
    }
    return [
        f"{len(found)} {kind}{'s' * (len(found) > 1)} damaged "
        f"({_examples(found)}): {what}"
        for what, found in notes.items()
        if found
    ]


def _examples(damaged: Mapping[float, str]) -> str:
    names = [name or f"{time:.3f} s" for time, name in sorted(damaged.items())]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
