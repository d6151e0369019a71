"""Reloads a changed config, and rotated secrets and certificates, while requests are served."""
