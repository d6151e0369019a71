"""The config file: read, checked with all errors reported, and turned into the runtime snapshot."""
