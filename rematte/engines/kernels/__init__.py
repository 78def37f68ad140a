"""Compiled loops, each named by its operation."""
