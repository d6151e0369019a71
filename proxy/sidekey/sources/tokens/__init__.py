"""Kinds that must call first: one call at a time, refresh ahead of expiry, back-off."""
