"""The rules show nothing of a key, and are equal where a reload changes nothing."""

from __future__ import annotations

from pathlib import Path

from sidekey.authority.rules import CaRules
from support.authorities import authority_of, rules_in


def test_nothing_of_a_key_is_shown() -> None:
    """In a traceback, say."""
    own = authority_of("https://a.test")
    assert "BEGIN" not in repr(CaRules(brought=True, own=own, extra_roots=own.trusted))


def test_equal_configs_make_equal_rules(tmp_path: Path) -> None:
    """Then a reload leaves the CA alone."""
    urls = ("https://a.test", "https://10.0.0.1")
    assert rules_in(tmp_path, *urls) == rules_in(tmp_path, *reversed(urls))
    assert rules_in(tmp_path, *urls) != rules_in(tmp_path, urls[0])
