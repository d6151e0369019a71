"""A grant that cannot be used, for whatever defect: it leaves nothing behind that the next request would use."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import Grant, Places, Traits
from support.plane import FixedSource, base_url, get, integration
from support.scripted import Scripted, settle

UNWRITABLE = Grant(headers=(("Authorization", "\u2603"),))
"""Text of a grant is latin-1."""
ELSEWHERE = Grant(base_url="https://elsewhere.test/api")
"""No allowed domain covers it."""


@pytest.mark.parametrize(
    ("traits", "grant", "error"),
    [
        (Traits(Places(headers=("Authorization",))), UNWRITABLE, UnicodeEncodeError),
        (Traits(Places(headers=("Authorization",)), learns=True), ELSEWHERE, ValueError),
    ],
    ids=["header", "base URL"],
)
async def test_it_is_used_by_no_request(traits: Traits, grant: Grant, error: type[Exception]) -> None:
    """Neither by the first, nor by those that find it noted as the one in use."""
    made = integration("h", base_url(1), traits=traits)
    if traits.learns:
        made = integration("h", domains=("https://up.test",), traits=traits)
    sidekey = Scripted(made, sources={"h": FixedSource(grant)})
    for _ in range(3):
        caller = sidekey.caller()
        caller.feed(get())
        await settle()
        assert caller.take().startswith(b"HTTP/1.1 500 ")
    assert all(not upstream.written for upstream in sidekey.upstreams)
    assert [type(defect) for defect in sidekey.defects] == [error] * 3
    assert sidekey.metrics.in_flight == 0
