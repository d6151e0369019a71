"""The admin and the metrics listener, on aiohttp."""
