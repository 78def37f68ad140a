"""The public names of `rematte.resume`: long videos in segments."""

from typing import TYPE_CHECKING, Any

from rematte.resume import LEAD_IN, LENGTH
from rematte.resume.join import LongReport, join
from rematte.resume.plan import Segment, Work, plan_segments, prepare
from rematte.resume.run import SegmentConverter, convert_long

if TYPE_CHECKING:
    from rematte.engines.convert_graph import weights_digest as weights_hash

__all__ = [
    "LEAD_IN",
    "LENGTH",
    "LongReport",
    "Segment",
    "SegmentConverter",
    "Work",
    "convert_long",
    "join",
    "plan_segments",
    "prepare",
    "weights_hash",
]


def __getattr__(name: str) -> Any:
    """Import `weights_hash` when it is first used, since it alone needs torch."""
    if name != "weights_hash":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rematte.engines.convert_graph import weights_digest

    return weights_digest
