"""Client certificates: their config, what they are made of, and how they are checked (RFC 5280, RFC 7468, RFC 8446)."""
