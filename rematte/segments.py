"""The public names of `rematte.resume`: long videos in segments."""

from rematte.engines.convert_graph import weights_digest as weights_hash
from rematte.resume import LEAD_IN, LENGTH
from rematte.resume.join import LongReport, join
from rematte.resume.plan import Segment, Work, plan_segments, prepare
from rematte.resume.run import SegmentConverter, convert_long

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
