"""benchmarks/scrape.py: the row measures what it says."""
