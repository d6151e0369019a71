"""Roles, and what holds the secrets of the admin listener."""

from __future__ import annotations

import pickle

import pytest

from sidekey.runtime.admin_rules import ROLES, AdminToken, ServerCertificate, includes


def test_each_role_may_what_the_one_before_may() -> None:
    """Viewer, editor, admin."""
    assert [[includes(role, needed) for needed in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_neither_a_token_nor_a_key_is_shown_or_pickled() -> None:
    """Not even the token's hash."""
    for held in (AdminToken(b"canary", "viewer"), ServerCertificate(b"chain", b"canary")):
        assert "canary" not in repr(held)
        with pytest.raises(TypeError):
            pickle.dumps(held)
