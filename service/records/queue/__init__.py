"""Who waits: lines of tenants, their order, and messages that must go out."""
