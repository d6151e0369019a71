"""Presets: prepared requests with parameters. No I/O."""
