"""The config file: read, judged with all its errors named, and turned into the runtime snapshot."""
