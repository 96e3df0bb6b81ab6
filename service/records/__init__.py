"""What Redis keeps: records, queues and limits, and the application's ports on them."""
