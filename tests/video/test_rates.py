"""Converting frame rates by time."""

from fractions import Fraction
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from rematte.video.video_source import Shown, at_rate

rates = st.sampled_from([Fraction(n) for n in (1, 12, 24, 25, 30, 50, 60)]) | st.builds(
    Fraction, st.sampled_from([24000, 30000, 60000]), st.just(1001)
)
lengths = st.lists(st.integers(1, 200), min_size=1, max_size=30)


def shown(lengths: list[int], begin: int = 0) -> list[Shown[int]]:
    """Frames one after another, in thousandths of a second."""
    ends = [Fraction(end, 1000) for end in accumulate(lengths, initial=begin)]
    return [(n, a, b - a) for n, (a, b) in enumerate(pairwise(ends))]


@given(lengths, st.integers(0, 5000), rates)
def test_each_frame_shows_what_the_source_shows_in_its_middle(
    lengths: list[int], begin: int, rate: Fraction
) -> None:
    source = shown(lengths, begin)
    out = list(at_rate(source, rate))
    if len(out) > 1:
        for index, time, duration in out:
            _, since, length = source[index]
            assert since <= time + duration / 2 < since + length
    assert all(b[1] - a[1] == 1 / rate for a, b in pairwise(out))
    assert all(duration == 1 / rate for *_, duration in out)
    assert all((time * rate).denominator == 1 for _, time, _ in out)


@given(lengths, rates)
def test_lengths_stay_within_half_a_frame(lengths: list[int], rate: Fraction) -> None:
    seconds = Fraction(sum(lengths), 1000)
    count = len(list(at_rate(shown(lengths), rate)))
    assert count >= 1
    assert count == 1 or abs(count / rate - seconds) <= 1 / rate / 2


@given(lengths, rates, st.integers(0, 29))
def test_a_part_is_as_the_whole(lengths: list[int], rate: Fraction, cut: int) -> None:
    source = shown(lengths)
    whole = list(at_rate(source, rate))
    part = list(at_rate(source[cut:], rate))
    assert len(part) <= 1 or part == whole[-len(part) :]


@given(rates, st.lists(st.integers(-9, 9), min_size=40, max_size=40))
def test_the_same_rate_changes_nothing(rate: Fraction, errors: list[int]) -> None:
    """Times are off by up to a fifth of a frame, as where they are whole ms."""
    times = [n / rate + Fraction(e, 45) / rate for n, e in enumerate(errors)]
    source = [(n, a, b - a) for n, (a, b) in enumerate(pairwise(times))]
    assert [n for n, *_ in at_rate(source, rate)] == list(range(39))
