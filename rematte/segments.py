"""The public name of `rematte.resume.segments`."""

from rematte.resume.segments import *  # noqa: F403
