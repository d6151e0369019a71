"""The upstream's side: connections, their pools, the request head that is written and the response that is read."""
