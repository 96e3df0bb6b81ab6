"""Deliver webhooks: signed, only to where they may lead, and again until they arrive."""
