"""Takes up a changed config, and rotated secrets and certificates, while requests go on."""
