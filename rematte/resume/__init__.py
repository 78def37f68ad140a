"""Converts long videos in segments, to resume stopped runs and to share the work.

Each segment is converted into files of its own, encoded as the final ones are. They are
saved in a hidden folder beside the first output until all are complete, and are then
joined without re-encoding. In a single process, each segment starts from the recurrent
state that the previous one left in its folder. In several processes, each starts some
frames early with an empty state, and the difference in alpha at the seams is measured.
"""

LENGTH = 500  # frames in a segment; a run that is stopped loses at most these
LEAD_IN = 15  # frames; docs/long.md has the table it is from
