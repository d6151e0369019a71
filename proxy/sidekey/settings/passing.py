"""Builds what forwards targets that no integration covers: `forward.unmatched: pass`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sidekey.core.coverage import Coverage
from sidekey.core.headers import TARGET_FIELDS
from sidekey.core.policy import Policy
from sidekey.credentials.base import FixedCredential, Grant, Places, Traits
from sidekey.credentials.secret_loader import SecretLoader
from sidekey.runtime import snapshot


def build_passing(
    integrations: Mapping[str, snapshot.Integration],
    trust: snapshot.Trust,
    ports: Iterable[int],
    *,
    stored_at: frozenset[str] = frozenset(),
    awaits_store: bool = False,
) -> snapshot.Passing:
    """How a target that none of these integrations covers is forwarded; `trust` is the network's.

    Stored ones cover nothing beyond the host names `stored_at`: their editors must not keep anything else from passing.
    """
    own = [each for each in integrations.values() if not each.stored]
    known = [each.policy for each in integrations.values() if each.stored and each.rebuild is None]
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    secrets.load()
    return snapshot.Passing(
        coverage=Coverage.of(each.policy for each in own if each.rebuild is None)
        | Coverage.of(known).within(stored_at),
        unresolved=frozenset(each.id for each in own if each.rebuild is not None),
        nobody=snapshot.Integration(
            snapshot.NOBODY, "none", Policy(), None, secrets, Traits(Places()), trust, pass_headers=TARGET_FIELDS
        ),
        ports=frozenset(ports),
        awaits_store=awaits_store,
    )
