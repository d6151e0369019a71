"""The console: static pages that use the API from the browser."""
