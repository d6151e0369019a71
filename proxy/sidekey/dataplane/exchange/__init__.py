"""One request and its response: the class that owns their state, and what it keeps of bodies and responses."""
