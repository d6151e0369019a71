"""Variables that hold only while something is imported."""

from __future__ import annotations

import os

import pytest

from sidekey.import_variables import set_while_importing


def test_the_environment_is_afterwards_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the import fails."""
    monkeypatch.setenv("KNOWN", "before")
    monkeypatch.delenv("UNKNOWN", raising=False)
    before = dict(os.environ)
    with set_while_importing({"KNOWN": "", "UNKNOWN": "1"}):
        assert (os.environ["KNOWN"], os.environ["UNKNOWN"]) == ("", "1")
    assert dict(os.environ) == before
    with pytest.raises(ImportError), set_while_importing({"UNKNOWN": "1"}):
        raise ImportError
    assert dict(os.environ) == before
