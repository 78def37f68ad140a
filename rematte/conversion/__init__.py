"""The parts of one conversion: options in effect, outputs, checks and the report."""
