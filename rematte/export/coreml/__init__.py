"""Exports to CoreML, and interpreters that check them where CoreML is missing."""
