"""The pipeline process: the only part of the service that loads torch."""
