"""Outgoing connections: resolve, judge, connect, TLS. The one place where an outgoing socket is made."""
