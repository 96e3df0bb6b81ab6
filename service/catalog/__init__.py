"""The catalogue as a file: read, read again when it changes, checked, filled by `models add`."""
