"""Trained weights: the table of names, loading, and downloading on request."""
