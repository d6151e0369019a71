"""Access tokens and sessions: fetch in a single flight, refresh ahead of expiry, back off after failures."""
