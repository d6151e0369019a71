"""Drives kinds that must call somewhere first: one flight at a time, refresh ahead of expiry, back-off."""
