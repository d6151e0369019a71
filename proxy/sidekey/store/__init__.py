"""The store of managed integrations: SQLite or PostgreSQL, what it holds sealed and vouched for by a ring of keys."""
