"""Kinds of credential: their config, and how each becomes a grant for a request. No I/O."""
