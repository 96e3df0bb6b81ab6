"""Finished pictures as viewers ask for them."""
