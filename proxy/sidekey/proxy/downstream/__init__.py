"""The caller's side: parse requests, keep their order, write responses."""
