"""What may be asked: a request's fields, their names, its seeds and sources."""
