"""The API of managed integrations, `/api/v1` on the admin listener. Imported only where there is a store."""
