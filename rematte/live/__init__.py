"""Matting of cameras and streams as they play."""
