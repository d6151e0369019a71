"""A load that rebuilds only changed integrations has the result of a first load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.load import Loaded, Loader, load
from sidekey.credentials.base import FixedCredential, Grant
from sidekey.snapshot.snapshot import Integration

FILES = ("a.yaml", "b.yaml")
NAMES = ("crm", "sms", "shop", "bank")
KEYS = ("key-0", "key-1")
HEADERS = "auth: {type: headers, headers: {X-Tenant: acme, X-Key: {secret: {file: KEY}}}}"
VARIANTS = (
    f"endpoint_prefix: https://api.example.com/v1, {HEADERS}",
    f"endpoint_prefix: [https://api.example.com/v2, https://eu.example.com], methods: [GET], {HEADERS}",
    # A warning, and one that is unreadable in each load.
    f"endpoint_prefix: http://plain.example.com, {HEADERS}",
    "endpoint_prefix: https://api.example.com, auth: {type: basic, username: u, password: {file: nowhere}}",
    f"endpoint_prefix: {{file: KEY}}, {HEADERS}",
    "auth: {type: oauth2, provider: commercetools, region: europe-west1.gcp, client_id: i, client_secret: {file: KEY}}",
    f"endpoint_prefix: https://api.example.com, trusted_ca: system, allow_private: [10.0.0.0/8], {HEADERS}",
    # Invalid ones.
    "endpoint_prefix: https://api.example.com",
    f"endpoint_prefix: https://api.example.com, odd: 1, {HEADERS}",
)
FIRST_INVALID = 7


class Written(NamedTuple):
    """An integration: its file, its text, and the key that it reads."""

    file: str
    variant: int
    key: str

    @property
    def text(self) -> str:
        """Write the integration's mapping."""
        return VARIANTS[self.variant].replace("KEY", self.key)


class Edit(NamedTuple):
    """A complete config, and the keys that are rotated before it is loaded."""

    integrations: Mapping[str, Written]
    rotated: frozenset[str]
    trust: str
    comment: bool
    broken: str | None


WRITTEN = st.builds(
    Written,
    st.sampled_from(FILES),
    # An invalid one in about one of fifteen.
    st.sampled_from([*range(FIRST_INVALID), *range(FIRST_INVALID), *range(len(VARIANTS))]),
    st.sampled_from(KEYS),
)


@st.composite
def edits(draw: st.DrawFn) -> list[Edit]:
    """Draw configs that each differ from the previous one in a few integrations."""
    result: dict[str, Written] = {}
    listed: list[Edit] = []
    for _ in range(draw(st.integers(2, 6))):
        changes = draw(st.dictionaries(st.sampled_from(NAMES), st.none() | WRITTEN, max_size=2))
        result = {name: written for name, written in {**result, **changes}.items() if written is not None}
        listed.append(
            Edit(
                integrations=result,
                rotated=draw(st.frozensets(st.sampled_from(KEYS), max_size=1)),
                trust=draw(st.sampled_from(["mozilla", "mozilla", "system"])),
                comment=draw(st.booleans()),
                broken=draw(st.sampled_from([None, None, None, *FILES])),
            )
        )
    return listed


def write(folder: Path, edit: Edit) -> None:
    for file in FILES:
        lines = [f"  {name}: {{{item.text}}}" for name, item in edit.integrations.items() if item.file == file]
        top = [f"network: {{trusted_ca: {edit.trust}}}"] if file == FILES[0] else []
        comment = ["# moves what is below"] if edit.comment else []
        broken = ["  broken: ["] if edit.broken == file else []
        text = "\n".join(["version: 1", *top, *comment, "integrations:", *lines, *broken])
        (folder / file).write_text(f"{text}\n")


def granted(integration: Integration) -> Grant | str:
    """Return the grant, or why there is none."""
    credential = integration.secrets.credential
    if credential is None:
        return str(integration.secrets.unreadable)
    return credential.grant if isinstance(credential, FixedCredential) else repr(credential)


def outcome(loaded: Loaded) -> tuple[object, ...]:
    """Return everything that a load reports."""
    return loaded.findings, loaded.retained, loaded.stamps


def built(loaded: Loaded) -> object:
    """Return everything that a load builds, in order, except objects that are never equal."""
    result = loaded.snapshot
    if result is None:
        return None
    return result.network, [
        (
            *(
                item.id,
                item.kind,
                item.policy,
                item.base,
                item.traits,
                item.egress,
                item.profile_entries,
            ),
            *(granted(item), item.rebuild is None),
        )
        for item in result.integrations.values()
    ]


@given(edits())
def test_later_load_equals_a_first_load(tmp_path_factory: pytest.TempPathFactory, steps: list[Edit]) -> None:
    """Parts that did not change since the last good load are the same objects."""
    folder = tmp_path_factory.mktemp("config")
    loader = Loader(folder, {})
    versions = dict.fromkeys(KEYS, 1)
    last: dict[str, tuple[Integration, object]] = {}
    for step in steps:
        for key in step.rotated:
            versions[key] += 1
        for key, version in versions.items():
            text = f"https://{'x' * version}.example.com"
            if not (folder / key).exists() or (folder / key).read_text() != text:
                (folder / key).write_text(text)
        write(folder, step)
        loaded, fresh = loader.load(0.0), load(folder, {}, 0.0)
        assert outcome(loaded) == outcome(fresh)
        assert built(loaded) == built(fresh)
        if loaded.snapshot is None:
            continue
        now: dict[str, tuple[Integration, object]] = {}
        for name, integration in loaded.snapshot.integrations.items():
            written = step.integrations[name]
            trust = None if "trusted_ca" in written.text else step.trust
            read = versions[written.key] if written.key in written.text else 0
            now[name] = integration, (written.text, trust, read)
            if name in last:
                assert (integration is last[name][0]) == (now[name][1] == last[name][1])
        last = now
