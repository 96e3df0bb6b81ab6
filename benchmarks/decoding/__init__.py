"""Tiled decoding beside the undivided decode."""
