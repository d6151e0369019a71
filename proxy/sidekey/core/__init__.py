"""Decisions without I/O: headers, framing, doors, URLs, policy and address classes."""
