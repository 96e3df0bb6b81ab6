"""One generation: what is asked for, checked before it begins, and run pass by pass."""
