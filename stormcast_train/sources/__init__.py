"""Readers: a raw file becomes named fields with units and times, on the source's own grid; no regridding."""
