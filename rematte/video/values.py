"""Reads rates, times and sizes as people write them."""

from decimal import Decimal
from fractions import Fraction
from numbers import Rational

Rate = int | float | str | Fraction

# FFmpeg's fractions have 31 bits for a time base, which limits the rate [frames/s].
_SLOWEST = Fraction(1, 100_000)


def parse_rate(value: Rate, name: str = "frame_rate") -> Fraction:
    """Turn any kind of number into exact frames per second.

    23.976, 23.98 and 29.97 mean 24000/1001, 24000/1001 and 30000/1001. An error calls
    the number `name`.

    Raises:
        ValueError: If it is not a number from 1/100000 to 1000.
    """
    try:
        rate = _fraction(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error
    if not _SLOWEST <= rate <= 1000:
        raise ValueError(f"{name} must be from {_SLOWEST} to 1000, got {value!r}")
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    is_near = rate > 1 and abs(rate - ntsc) < Fraction(1, 200)  # 23.98 as well
    exact = ntsc if is_near and rate != round(rate) else rate
    return exact.limit_denominator(_SLOWEST.denominator)


def _fraction(value: Rate) -> Fraction:
    """Return the exact value of a number of any kind, numpy's too.

    A floating one means what it is written as: 1.2 is 6/5, which ends a frame.
    """
    known = isinstance(value, str | Rational | Decimal)
    try:
        return Fraction(value if known else repr(float(value)))
    except (ArithmeticError, TypeError) as error:  # infinity; n/0; no number at all
        raise ValueError(f"{value!r} is not a number") from error


def parse_time(name: str, value: Rate | None) -> Fraction | None:
    """Turn seconds or "[HH:]MM:SS[.mmm]" into exact seconds; None stays None.

    Raises:
        ValueError: If it is not a time, or negative; the error calls it `name`.
    """
    if value is None:
        return None
    try:
        seconds = Fraction(0)
        for part in value.split(":") if isinstance(value, str) else (value,):
            seconds = seconds * 60 + _fraction(part)
    except ValueError as error:
        raise ValueError(
            f"{name} must be seconds or [HH:]MM:SS, got {value!r}"
        ) from error
    if seconds < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return seconds


def parse_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT.

    Raises:
        ValueError: If it is not a size.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ValueError(f"must be WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


def parse_number_or_word(text: str) -> float | str:
    """Read a number; anything else stays as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def parse_count_or_word(text: str) -> int | str:
    """Read a whole number; anything else stays as it is."""
    return int(text) if text.isdigit() else text


def parse_region(text: str) -> str | tuple[int, int, int, int]:
    """Read "auto", "full" or "X,Y,WIDTH,HEIGHT" [pixels].

    Raises:
        ValueError: If it is none of these.
    """
    if text in ("auto", "full"):
        return text
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(f"must be auto, full or X,Y,WIDTH,HEIGHT, got {text!r}")
    x, y, width, height = map(int, numbers)
    return x, y, width, height


def check_region(region: str | tuple[int, ...]) -> None:
    """Check a region that was given in Python; see `parse_region`.

    Raises:
        ValueError: If it is not a region, or has no area.
    """
    if region in ("auto", "full"):
        return
    numbers = region if isinstance(region, tuple) else ()
    if len(numbers) != 4 or min(numbers) < 0 or min(numbers[2:]) < 1:
        raise ValueError(
            "region must be auto, full or X,Y,WIDTH,HEIGHT with a width and a height "
            f"above 0, got {region!r}"
        )
