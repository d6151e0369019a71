"""Integrations of the store: what may be written, what is sealed and for where."""
