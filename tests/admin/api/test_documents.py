"""admin/api/documents.py: how integrations are shown that do not stand well."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from sidekey.admin.api.documents import Wanted, page, whole
from sidekey.admin.api.standings import Standings
from sidekey.credentials.certificates.loader import CertificateLoader, Reading
from sidekey.runtime.snapshot import Integration, Judgement, Snapshot, Stored
from sidekey.runtime.standing import STATES, State
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State as StoreState
from support.plane import integration
from support.standings import certified, unread
from support.stored import BASIC, CANARY, beside, former, mtls, stored

ROW = stored(BASIC)


NOW = 1_800_000_000.0


def standings(state: str, reason: str = "why") -> Standings:
    """Those of a snapshot in which the row is judged so, and nothing is served."""
    judgements = {"crm": Judgement(state, reason)}  # type: ignore[arg-type]
    return Standings(Snapshot({}, stored=Stored(1, judgements=judgements)), {}, NOW)


def test_what_cannot_be_used_says_why() -> None:
    """With its document, so that it can be put right."""
    shown = whole(ROW, standings("sealed"))
    assert (shown["status"], shown["reason"], shown["usable"]) == ("sealed", "why", False)
    assert shown["auth"]["password"] == {"set": True, "updated_at": "1970-01-01T00:00:01Z", "updated_by": "ann"}
    assert (shown["kind"], shown["base"]) == ("basic", None)


def test_nothing_of_an_altered_row_is_believed() -> None:
    """Only that it is there, and which version a change must name."""
    shown = whole(replace(ROW, state="altered"), standings("altered"))
    assert (shown["status"], shown["version"], shown["kind"]) == ("altered", 1, None)
    assert "auth" not in shown


def test_a_document_of_another_version_is_left_out() -> None:
    """It is no reason not to show the rest."""
    for text in ("not json", "[]", "{}", '{"integration": {"auth": 7}}'):
        shown = whole(replace(ROW, document=text), standings("invalid"))
        assert (shown["status"], shown["kind"]) == ("invalid", None), text


def test_a_certificate_of_a_kind_that_is_gone_reads_as_what_is_in_it() -> None:
    """Never its PEM, whatever this version makes of the rest."""
    for document, block in ((mtls(), "auth"), (beside(), "client_certificate")):
        row = stored(document)
        gone = replace(row, document=row.document.replace('"type":"', '"type":"gone-'))
        shown = whole(gone, standings("invalid"))
        assert shown[block]["certificate"].keys() == {"set", "subject", "issuer", "not_after"}
        assert "BEGIN" not in str(shown)
        assert set(former(gone).certificates()) == {f"/{block}/certificate"}


def test_a_list_has_what_is_not_served_as_well() -> None:
    """By what was written."""
    row = stored({**BASIC, "description": "Ours", "tags": ["a"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    (item,) = page(state, standings("hidden"), Wanted(q="ours", tag="a", kind="basic", status="hidden"))["items"]
    assert (item["id"], item["description"], item["tags"], item["usable"]) == ("crm", "Ours", ["a"], False)
    assert page(state, standings("hidden"), Wanted(status="ok"))["items"] == []
    other = StoreState(
        integrations=MappingProxyType({"crm": replace(ROW, document='{"integration":{"tags":[7],"auth":{}}}')})
    )
    (item,) = page(other, standings("invalid"), Wanted())["items"]
    assert (item["kind"], item["description"], item["tags"]) == (None, "", [])
    broken = StoreState(integrations=MappingProxyType({"crm": IntegrationRow(row="r", id="crm", document="broken")}))
    assert page(broken, standings("invalid"), Wanted())["items"][0]["kind"] is None


def test_no_secret_is_in_what_is_shown() -> None:
    """Not even sealed."""
    shown = str(whole(ROW, standings("ok")))
    assert CANARY not in shown
    assert ROW.secrets["/auth/password"].sealed not in shown


JUDGED = ("hidden", "invalid", "sealed", "altered")


def made(state: State, *, is_stored: bool) -> Integration:
    """One that stands so, or would if it were served."""
    plain = replace(integration(state, f"https://{state.replace('_', '-')}.test/v1"), stored=is_stored)
    match state:
        case "expiring":
            return certified(plain, NOW + 86_400)
        case "expired":
            return certified(plain, NOW - 86_400)
        case "not_fetched":
            urls = ((("auth", "certificate"), "https://vault.test"),)
            return replace(plain, certificate=CertificateLoader(lambda *_: Reading(None), urls=urls))
        case "secret_missing":
            return unread(plain, "auth.password: is empty")
        case _:
            return plain


def everything() -> tuple[StoreState, Standings]:
    """An integration for each word, of the store; and of files, by the same ID with a prefix, those that can be."""
    rows = {state: replace(ROW, id=state, row=state) for state in STATES}
    of_store = {state: made(state, is_stored=True) for state in STATES if state != "hidden"}
    of_files = {f"f-{state}": made(state, is_stored=False) for state in STATES if state not in JUDGED}
    of_files = {name: replace(each, id=name) for name, each in of_files.items()}
    judgements = {state: Judgement(state if state in JUDGED else "ok") for state in STATES}  # type: ignore[arg-type]
    stored_side = Stored(1, judgements=judgements, integrations=of_store)
    snapshot = Snapshot({**of_store, **of_files}, stored=stored_side)
    failing = {"failing": 1, "f-failing": 1, "hidden": 1}
    return StoreState(integrations=MappingProxyType(rows)), Standings(snapshot, failing, NOW)


def found(**wanted: str) -> list[str]:
    state, all_of_them = everything()
    return [each["id"] for each in page(state, all_of_them, Wanted(**wanted))["items"]]


@pytest.mark.parametrize("state", STATES)
def test_each_word_finds_those_that_stand_so(state: State) -> None:
    """Of the store and of files; no file has one that was judged otherwise than well."""
    assert found(status=state) == sorted([state] if state in JUDGED else [f"f-{state}", state])


def test_what_can_be_chosen_for_a_preset_is_found() -> None:
    """Those that are sent with their credential, however their requests end."""
    usable = ("ok", "expiring", "failing")
    assert found(usable="true") == sorted([*usable, *(f"f-{state}" for state in usable)])
    assert set(found(usable="false")) == {*STATES, *(f"f-{state}" for state in STATES if state not in JUDGED)} - {
        *found(usable="true")
    }


def test_times_are_told_where_there_are_any() -> None:
    state, all_of_them = everything()
    items = {each["id"]: each for each in page(state, all_of_them, Wanted())["items"]}
    assert items["expiring"]["expires_at"] == items["f-expiring"]["expires_at"] == "2027-01-16T08:00:00Z"
    assert items["failing"]["failing_since"] == items["f-failing"]["failing_since"] == "1970-01-01T00:00:01Z"
    assert (items["ok"]["expires_at"], items["ok"]["failing_since"], items["ok"]["reason"]) == (None, None, None)
    # Requests of its ID are another's.
    assert items["hidden"]["failing_since"] is None


def test_an_integration_is_found_by_where_it_sends() -> None:
    """By host, in any case; one that is not served by what is written."""
    assert found(q="EXPIRING.test") == ["expiring", "f-expiring"]
    assert found(q="API.example.COM") == ["hidden"]
    row = stored({**BASIC, "endpoint_prefix": ["https://a.test", "https://b.test/v1"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    assert [each["id"] for each in page(state, standings("hidden"), Wanted(q="B.test"))["items"]] == ["crm"]
