"""Conversions in segments, which can be resumed and shared by processes."""
