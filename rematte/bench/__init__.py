"""Measures speed and memory: steps and files, and whole processes."""
