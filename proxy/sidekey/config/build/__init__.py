"""Build the snapshot that the process serves from a validated config, section by section."""
