"""Tests in a real browser, which is one for all of them: see the conftest."""
