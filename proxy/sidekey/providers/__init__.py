"""Provider profiles: one YAML file for each platform, read by `config/profiles.py`."""
