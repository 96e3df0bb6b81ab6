"""Pictures that requests start from: uploaded, or fetched from elsewhere."""
