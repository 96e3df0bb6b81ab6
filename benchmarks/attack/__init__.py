"""What other clients notice while one does its worst: `python -m benchmarks.attack`."""
