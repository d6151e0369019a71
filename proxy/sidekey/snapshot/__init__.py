"""The config as the process serves it: immutable, and replaced as a whole by each reload."""
