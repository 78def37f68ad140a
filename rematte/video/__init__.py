"""Video and image files in and out, with exact times and colours; no torch here."""
