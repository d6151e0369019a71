"""Decisions without I/O: targets, paths, headers, addresses, and which integration serves a request."""
