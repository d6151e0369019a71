"""Client certificates: their config, encoding and validation (RFC 5280, RFC 7468, RFC 8446)."""
