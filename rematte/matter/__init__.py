"""Mattes of frames that are in memory: photos, videos, several streams at once."""
