"""What guides a larger pass by what was drawn or is asked at native size."""
