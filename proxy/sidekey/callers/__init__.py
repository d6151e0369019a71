"""Verify the JWTs of callers: fetch and cache the keys of issuers."""
