"""Kinds of credential: what each is made of and how it becomes a grant. What must be read or called is handed in."""
