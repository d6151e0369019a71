"""Diagnostics for operators: explain a decision, test an integration, preview a preset."""
