"""Kinds whose grants end: one call at a time, refresh ahead of expiry, back-off."""
