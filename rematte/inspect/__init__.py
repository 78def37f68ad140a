"""Looks at a clip or a finished file before anyone waits for it or relies on it.

Nothing here knows the true matte: figures say how far the network agrees with itself,
and where to look.
"""
