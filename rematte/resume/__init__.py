"""Long videos in segments: stopped runs are resumed, workers share one video.

Each segment is converted into files of its own, encoded as the final ones are. They are
saved in a hidden folder beside the first output until all are there, and are then
joined without encoding again. Alone, each segment starts from the recurrent state that
the one before it left in its folder. Side by side, each starts some frames early with
an empty state, and the difference in alpha where two meet is measured.
"""

LENGTH = 500  # frames in a segment; a run that is stopped loses at most these
LEAD_IN = 15  # frames; docs/long.md has the table it is from
