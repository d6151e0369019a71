"""The config file: read, judged with all its faults named, and turned into the runtime snapshot."""
