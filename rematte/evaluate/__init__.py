"""Measuring mattes against true ones, and making the true ones."""
