"""HiDiffusion on U-Nets: where it acts, which step a call is, windows, and the patch."""
