"""Metrics, logs, the audit log and usage."""
