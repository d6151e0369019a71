"""Integrations and presets of the store: validate, seal, build, export and import them."""
