"""The store of integrations: SQLite or PostgreSQL, with sealed secrets and authenticated rows."""
