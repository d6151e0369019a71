"""Provider profiles: one YAML file for each platform, read by `settings/profiles.py`."""
