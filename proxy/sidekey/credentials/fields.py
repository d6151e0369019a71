"""Field types that kinds share: secret references, and the rules for injected header names and values."""

from __future__ import annotations

from pydantic import BaseModel


class SecretUnreadable(Exception):
    """A secret cannot be read. The message names the place and the reason, never the content."""


class Reference(BaseModel):
    """Placeholder, refined by the settings work."""
