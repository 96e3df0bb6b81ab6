"""Everything that only a GPU can tell, measured by one command that fits a borrowed machine."""
