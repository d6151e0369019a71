"""Kinds of credentials: their config keys, and the grants that they add to requests. No I/O."""
