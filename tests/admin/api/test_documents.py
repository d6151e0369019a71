"""admin/api/documents.py: how integrations are shown that do not stand well."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from sidekey.admin.api.documents import Wanted, page, whole
from sidekey.runtime.snapshot import Judgement, Snapshot, Stored
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State
from support.stored import BASIC, CANARY, beside, former, mtls, stored

ROW = stored(BASIC)


def snapshot(state: str, reason: str = "why") -> Snapshot:
    """One in which the row is judged so, and nothing is served."""
    return Snapshot({}, stored=Stored(1, judgements={"crm": Judgement(state, reason)}))  # type: ignore[arg-type]


def test_what_cannot_be_used_says_why() -> None:
    """With its document, so that it can be put right."""
    shown = whole(ROW, snapshot("sealed"))
    assert (shown["status"], shown["reason"], shown["usable"]) == ("sealed", "why", False)
    assert shown["auth"]["password"] == {"set": True, "updated_at": "1970-01-01T00:00:01Z", "updated_by": "ann"}
    assert (shown["kind"], shown["base"]) == ("basic", None)


def test_nothing_of_an_altered_row_is_believed() -> None:
    """Only that it is there, and which version a change must name."""
    shown = whole(replace(ROW, state="altered"), snapshot("altered"))
    assert (shown["status"], shown["version"], shown["kind"]) == ("altered", 1, None)
    assert "auth" not in shown


def test_a_document_of_another_version_is_left_out() -> None:
    """It is no reason not to show the rest."""
    for text in ("not json", "[]", "{}", '{"integration": {"auth": 7}}'):
        shown = whole(replace(ROW, document=text), snapshot("invalid"))
        assert (shown["status"], shown["kind"]) == ("invalid", None), text


def test_a_certificate_of_a_kind_that_is_gone_reads_as_what_is_in_it() -> None:
    """Never its PEM, whatever this version makes of the rest."""
    for document, block in ((mtls(), "auth"), (beside(), "client_certificate")):
        row = stored(document)
        gone = replace(row, document=row.document.replace('"type":"', '"type":"gone-'))
        shown = whole(gone, snapshot("invalid"))
        assert shown[block]["certificate"].keys() == {"set", "subject", "issuer", "not_after"}
        assert "BEGIN" not in str(shown)
        assert set(former(gone).certificates()) == {f"/{block}/certificate"}


def test_a_list_has_what_is_not_served_as_well() -> None:
    """By what was written."""
    row = stored({**BASIC, "description": "Ours", "tags": ["a"]})
    state = State(integrations=MappingProxyType({"crm": row}))
    (item,) = page(state, snapshot("hidden"), Wanted(q="ours", tag="a", kind="basic", status="hidden"))["items"]
    assert (item["id"], item["description"], item["tags"], item["usable"]) == ("crm", "Ours", ["a"], False)
    assert page(state, snapshot("hidden"), Wanted(status="ok"))["items"] == []
    other = State(
        integrations=MappingProxyType({"crm": replace(ROW, document='{"integration":{"tags":[7],"auth":{}}}')})
    )
    (item,) = page(other, snapshot("invalid"), Wanted())["items"]
    assert (item["kind"], item["description"], item["tags"]) == (None, "", [])
    broken = State(integrations=MappingProxyType({"crm": IntegrationRow(row="r", id="crm", document="broken")}))
    assert page(broken, snapshot("invalid"), Wanted())["items"][0]["kind"] is None


def test_no_secret_is_in_what_is_shown() -> None:
    """Not even sealed."""
    shown = str(whole(ROW, snapshot("ok")))
    assert CANARY not in shown
    assert ROW.secrets["/auth/password"].sealed not in shown
