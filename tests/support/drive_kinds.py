"""Drive kinds that request tokens, with replies of a test instead of sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from sidekey.config.secrets import SecretReader
from sidekey.credentials.base import Attempt, Call, CallingCredential, Issued, KindSettings, Reply
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.registry import AuthSettings

NOW = 1_790_000_000.0
"""A wall clock, in seconds since the epoch."""

ENVIRON = {"SECRET": "s3cret/+ &=%:~"}


def settings_of(auth: Mapping[str, Any]) -> KindSettings:
    """Validate the settings of an `auth` block. Raises pydantic.ValidationError."""
    return TypeAdapter(AuthSettings).validate_python(dict(auth), context=Context("file"))


def credential_of(auth: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> CallingCredential:
    """Build the credential of an `auth` block. Raises SecretUnreadable."""
    settings = settings_of(auth)
    values, reasons = settings.read(SecretReader(Path(), {**ENVIRON, **(environ or {})}), {})
    if reasons:
        raise SecretUnreadable(reasons)
    return cast(CallingCredential, settings.credential(values))


def reply(content: Any = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Build a response. Content that is not bytes becomes JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Reply(status, headers or {}, body)


def first_call(credential: CallingCredential, attempt: Attempt | None = None) -> Call:
    """Return the first call of an attempt."""
    return next(credential.obtain(attempt or Attempt(NOW)))


def issue(credential: CallingCredential, *replies: Reply, attempt: Attempt | None = None) -> tuple[Issued, list[Call]]:
    """Return the result after exactly these replies, and the calls. Raises CallError."""
    flow = credential.obtain(attempt or Attempt(NOW))
    calls = [next(flow)]
    for number, response in enumerate(replies, 1):
        try:
            calls.append(flow.send(response))
        except StopIteration as done:
            assert number == len(replies), "replies are left over"
            return done.value, calls
    raise AssertionError("the credential calls once more")
