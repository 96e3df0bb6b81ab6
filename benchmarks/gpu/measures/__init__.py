"""One file a section: what it measures, each in a process of its own."""
