"""Operators: who may call the API, with a token or a session of the console."""
