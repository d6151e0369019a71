"""What a config is while the process runs: the rules that a request keeps, and how another config replaces it."""
