"""Redis and RQ: records, the queue, and the supervisor that keeps a pipeline process alive."""
