"""From a request target to an integration compiled for the hot path."""
