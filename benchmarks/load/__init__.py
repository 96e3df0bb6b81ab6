"""How much one API process takes: requests accepted a second, and clients that watch."""
