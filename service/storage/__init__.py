"""Where finished bytes go: a local folder, memory or S3, through one interface."""
