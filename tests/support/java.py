"""How the JVMs of tests are started."""

from __future__ import annotations

from typing import Final

QUICKLY: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""For one that lives for a single request: the second compiler and threads that collect garbage cost more than it."""
