"""A Flux-shaped step at 4096x4096 in full and in 4x4 windows, and Inf-DiT's chunks."""

from __future__ import annotations
