"""Who runs jobs: an RQ worker that keeps one pipeline process alive; it never loads torch."""
