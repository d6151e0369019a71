"""benchmarks/redaction.py: what is timed finds secrets."""

from __future__ import annotations

from benchmarks import redaction
from benchmarks.redaction import SECRETS, head
from sidekey.core.redaction import Redactor


def test_heads_differ_and_are_clean() -> None:
    """As those of an API do: two fields of each."""
    one, other = head(1), head(2)
    assert len(set(one) - set(other)) == 2
    assert Redactor(SECRETS).clean(one) is one


def test_a_run_gives_every_figure() -> None:
    """It raises where a secret is not found, or a body does not come out."""
    found = redaction.run()
    assert set(found) == {"head_us", "plain_mb_s", "gzip_mb_s", "hostile_mb_s"}
    assert min(found.values()) > 0
