"""Matting of cameras and streams as they play."""

from rematte.live.run import LiveReport, live

__all__ = ["LiveReport", "live"]
