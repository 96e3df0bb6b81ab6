"""Networks, counted and timed: operations, live memory, a call with and without the method."""
