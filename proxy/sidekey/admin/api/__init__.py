"""The API of managed integrations, `/api/v1` on the admin listener."""
