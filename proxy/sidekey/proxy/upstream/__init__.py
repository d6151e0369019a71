"""The upstream's side: connection pools, the request head that is written, the response that is parsed."""
