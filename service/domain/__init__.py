"""Pure data: what a generation is, what happens to it, what it leaves behind. No I/O, no clock."""
