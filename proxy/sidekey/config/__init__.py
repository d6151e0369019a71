"""The config file: read, validate, report all errors at once, reload."""
