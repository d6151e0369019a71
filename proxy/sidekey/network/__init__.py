"""Outgoing connections: resolve, check the address, connect, TLS. No other package makes an outgoing socket."""
