"""Operators: who may call the API, by token, session or certificate."""
