"""Many conversions: in one process, in a pool of processes, or on a Ray cluster."""
