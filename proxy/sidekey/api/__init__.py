"""The admin listener: the API at `/api/v1`, the metrics endpoint and the health checks, on aiohttp."""
