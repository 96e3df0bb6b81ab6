"""How the pipeline process lives: its start, its channel, its first run, its calibration."""
