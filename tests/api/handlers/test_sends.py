"""`/presets/{id}/sends`, `/sends` and `/forms` in a running Sidekey: outcomes, reservations and records."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from support.api import ApiResponse
from support.http_get import wait_until
from support.sends import SECRET, SendApi, SendSetup, SendUpstream, new_key, sending, sql


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SendSetup]:
    with SendUpstream().running() as upstream, sending(tmp_path_factory.mktemp("sends"), upstream) as process:
        yield process


@pytest.fixture
def mark(running: SendSetup) -> SendApi:
    """Return the API with the token of a sender."""
    running.upstream.release.clear()
    return running.by("mark")


def last_audit_entry(running: SendSetup) -> dict[str, object]:
    """Return the newest entry of the audit."""
    return running.by("admin").get("/audit")["items"][0]


@pytest.mark.parametrize(
    ("word", "outcome", "status"),
    [
        ("200", "accepted", 200),
        ("204", "accepted", 204),
        ("302", "refused", 302),
        ("401", "refused", 401),
        ("429", "refused", 429),
        ("500", "failed", 500),
        ("cut", "unknown", None),
    ],
)
def test_send_has_the_outcome_of_the_upstream(
    running: SendSetup, mark: SendApi, word: str, outcome: str, status: int | None
) -> None:
    before, key = len(running.upstream.words), new_key()
    response = mark.send("welcome", key, phone=word)
    assert response.status == 200, response
    body = response.json
    assert (body["outcome"], body["status"], body["preset"], body["who"]) == (outcome, status, "welcome", "mark")
    assert (body["key"], body["host"], body["batch"]) == (key, "127.0.0.1", None)
    assert body["request_id"] or word == "cut"
    assert body.get("retry_after") == (None if status is None else 7)
    assert "integration" not in body and "reason" not in body
    assert running.upstream.words[before:] == [word]
    # The audit has no value of the request.
    message = running.upstream.requests[-1]
    assert json.loads(message.body) == {"text": f"Hello {word} en"}
    entry = last_audit_entry(running)
    assert (entry["action"], entry["object"], entry["name"]) == ("send", "preset", "welcome")
    assert (entry["who"], entry["outcome"]) == ("mark", {"accepted": "ok", "unknown": "unknown"}.get(outcome, "failed"))
    # A repeated key, and a page that lost the response, get the recorded result.
    repeated = mark.send("welcome", key, phone=word).json
    recorded = mark.get(f"/sends/{key}")
    assert repeated == recorded == {name: value for name, value in body.items() if name != "retry_after"}
    assert running.upstream.words[before:] == [word]
    assert running.by("anna").request("GET", f"/sends/{key}").code == "not_found"
    assert SECRET not in str(sql(running.folder, "SELECT * FROM sidekey_sends"))


def test_failure_names_the_person_who_sent(running: SendSetup, mark: SendApi) -> None:
    viewer = running.by("viewer")

    def is_listed() -> bool:
        # Sidekey keeps one failure a second.
        request = mark.send("welcome", phone="500").json["request_id"]
        newest = viewer.get("/integrations/sms/failures")["items"][0]
        return (newest["request_id"], newest["who"]) == (request, "mark")

    wait_until(is_listed)


@pytest.mark.parametrize(
    ("preset", "code", "host"),
    [
        ("closed", "upstream_unreachable", "127.0.0.1"),
        ("missing", "credential_unavailable", "127.0.0.1"),
        ("outside", "credential_unavailable", None),
    ],
)
def test_refused_preset_is_not_sent(
    running: SendSetup, mark: SendApi, preset: str, code: str, host: str | None
) -> None:
    """The sender does not see why a preset is unusable."""
    before, key = len(running.upstream.words), new_key()
    body = mark.send(preset, key).json
    assert (body["outcome"], body["status"], body["code"], body["host"]) == ("not_sent", None, code, host)
    assert last_audit_entry(running)["outcome"] == "failed"
    assert len(running.upstream.words) == before
    assert mark.get(f"/sends/{key}")["outcome"] == "not_sent"


def test_endless_body_does_not_change_the_status(mark: SendApi) -> None:
    body = mark.send("welcome", phone="endless").json
    assert (body["outcome"], body["status"]) == ("accepted", 201)
    assert 9_000 < body["milliseconds"] < 15_000


def test_invalid_parameters_do_not_count_as_a_send(running: SendSetup, mark: SendApi) -> None:
    rows = sql(running.folder, "SELECT count(*) FROM sidekey_sends")
    response = mark.send("welcome", phone=1, language="de", x=1)
    assert (response.code, response.pointers) == (
        "invalid",
        {"/parameters/phone", "/parameters/language", "/parameters/x"},
    )
    assert mark.post("welcome", {"payload": "x"}).pointers == {"/payload"}
    # A sender sends no payload, which would decide the whole body.
    for body in ({"payload": "x"}, {}, {"parameters": {}}):
        assert mark.post("event", body).code == "invalid", body
    for key in ("short", "k" * 65, "with space in a key"):
        assert mark.send("welcome", key, phone="200").code == "malformed"
    assert mark.request("POST", "/presets/welcome/sends", {"parameters": {}}).code == "malformed"
    assert sql(running.folder, "SELECT count(*) FROM sidekey_sends") == rows


def test_editor_sends_a_payload_with_the_type_of_the_preset(running: SendSetup) -> None:
    body = running.by("editor").post("event", {"payload": "Zoë"}).json
    assert (body["outcome"], body["integration"]) == ("accepted", "sms")
    message = running.upstream.requests[-1]
    assert (message.body, message.values(b"content-type")) == ("Zoë".encode(), [b"text/plain"])


def test_unknown_and_not_granted_presets_are_refused_alike(running: SendSetup, mark: SendApi) -> None:
    """A sender gets the same response for a granted preset that was deleted."""
    before = len(running.upstream.words)
    responses = [mark.send(preset) for preset in ("secret", "nobody", "gone")]
    assert {response.code for response in responses} == {"forbidden"}
    assert len({response.json["detail"] for response in responses}) == 1
    entry = last_audit_entry(running)
    assert (entry["who"], entry["action"], entry["outcome"]) == ("mark", "send", "forbidden")
    assert running.by("admin").send("nobody").code == "forbidden"
    response = running.by("viewer").send("welcome", phone="200")
    assert response.code == "forbidden"
    assert len(running.upstream.words) == before


def test_key_is_refused_for_other_content(mark: SendApi, running: SendSetup) -> None:
    """Another sender may use the same key. After the content is deleted, no request can repeat the key."""
    key = new_key()
    assert mark.send("welcome", key, phone="200").status == 200
    for response in (mark.send("welcome", key, phone="201"), mark.send("closed", key)):
        assert response.code == "key_reused"
    assert running.by("anna").send("welcome", key, phone="201").json["status"] == 201
    sql(running.folder, f"UPDATE sidekey_sends SET fingerprint = '' WHERE \"key\" = '{key}' AND who = 'mark'")
    assert mark.send("welcome", key, phone="200").code == "key_reused"
    assert mark.get(f"/sends/{key}")["outcome"] == "accepted"


def test_running_send_is_not_sent_again(running: SendSetup, mark: SendApi) -> None:
    """After 90 seconds the outcome is `unknown`, until a late result replaces it."""
    before, key = len(running.upstream.words), new_key()
    with closing(mark.begin("welcome", key, phone="hold")):
        wait_until(lambda: running.upstream.words[before:] == ["hold"])
        response = mark.send("welcome", key, phone="hold")
        assert (response.code, response.headers["Retry-After"]) == ("sending", "2")
        assert mark.send("welcome", key, phone="200").code == "key_reused"
        assert mark.get(f"/sends/{key}")["outcome"] == "sending"
    sql(running.folder, f"UPDATE sidekey_sends SET at = at - 91000 WHERE \"key\" = '{key}'")
    assert mark.send("welcome", key, phone="hold").json["outcome"] == "unknown"
    assert last_audit_entry(running)["outcome"] == "sent"
    running.upstream.release.set()
    wait_until(lambda: mark.get(f"/sends/{key}")["outcome"] == "accepted")
    assert last_audit_entry(running)["outcome"] == "ok"
    assert running.upstream.words[before:] == ["hold"]


def test_sender_has_at_most_eight_running_sends(running: SendSetup, mark: SendApi) -> None:
    """A refused send has no row: the sender may use its key again."""
    before, late = len(running.upstream.words), new_key()
    with ThreadPoolExecutor(8) as threads:
        held = [threads.submit(mark.send, "welcome", phone="hold") for _ in range(8)]
        wait_until(lambda: running.upstream.words[before:] == ["hold"] * 8)
        response = mark.send("welcome", late, phone="200")
        assert (response.code, response.headers["Retry-After"]) == ("too_many", "1")
        assert running.by("anna").send("welcome", phone="200").status == 200
        running.upstream.release.set()
        assert {future.result().json["outcome"] for future in held} == {"accepted"}
    assert mark.send("welcome", late, phone="200").json["outcome"] == "accepted"


def test_senders_read_their_own_sends(running: SendSetup, mark: SendApi) -> None:
    keys = [mark.send("welcome", phone="200").json["key"] for _ in range(2)]
    other = running.by("anna").send("welcome", phone="404").json["key"]
    own = mark.get("/sends")["items"]
    assert [item["key"] for item in own[:2]] == keys[::-1]
    assert {item["who"] for item in own} == {"mark"}
    assert [item["key"] for item in mark.get("/sends?preset=welcome")["items"]][:2] == keys[::-1]
    assert mark.request("GET", "/sends?who=anna").code == "forbidden"
    assert mark.request("GET", "/sends?who=%00").code == "malformed"
    for role in ("viewer", "editor", "admin"):
        by = running.by(role)
        seen = by.get("/sends?preset=welcome")["items"]
        assert [item["key"] for item in seen[:3]] == [other, *keys[::-1]]
        assert seen[0]["integration"] == "sms"
        assert {item["who"] for item in by.get("/sends?who=anna")["items"]} == {"anna"}
        assert {item["who"] for item in by.get("/sends")["items"]} <= {f"{role}-of-file"}


def test_forms_show_only_the_parameters(running: SendSetup, mark: SendApi) -> None:
    body = mark.get("/forms/welcome")
    assert body == {
        "id": "welcome",
        "title": "Welcome text message",
        "help": "Greets a new member",
        "takes": "parameters",
        "content_type": None,
        "problem": False,
        "parameters": [
            {
                "name": "phone", "type": "text", "required": True, "default": None, "max_length": 20, "enum": None,
                "title": "Phone", "help": "With country code", "example": "+44", "format": "phone",
            },
            {
                "name": "language", "type": "text", "required": False, "default": "en", "max_length": None,
                "enum": ["en", "sk"], "title": "", "help": "", "example": None, "format": None,
            },
        ],
    }  # fmt: skip
    listed = mark.get("/forms")
    assert listed["next"] is None
    states = {item["id"]: item["problem"] for item in listed["items"]}
    granted = {"welcome": False, "closed": False, "event": True, "missing": True, "outside": True, "gone": True}
    assert states == granted
    assert [item["id"] for item in mark.get("/forms?q=member%20WELCOME")["items"]] == ["welcome"]
    refused = [mark.request("GET", f"/forms/{name}") for name in ("secret", "nobody")]
    assert [response.code for response in refused] == ["forbidden"] * 2
    assert refused[0].json["detail"] == refused[1].json["detail"]
    assert running.by("editor").request("GET", "/forms/nobody").code == "not_found"
    assert mark.get("/forms/gone")["title"] == "gone"
    everything = running.by("viewer").get("/forms")["items"]
    assert [item["id"] for item in everything] == ["closed", "event", "missing", "outside", "secret", "welcome"]
    event = running.by("viewer").get("/forms/event")
    assert (event["takes"], event["content_type"], event["problem"]) == ("payload", "text/plain", False)


def test_rows_of_a_batch_are_checked_and_sent_one_by_one(running: SendSetup, mark: SendApi) -> None:
    """A batch has one audit entry and one item in the list, and names the rows that the upstream did not accept."""
    mark.send("welcome", phone="200")
    batch, before = {"id": secrets.token_hex(16), "rows": 4}, len(running.upstream.words)
    rows = [{"phone": "200"}, {"phone": 1, "x": 2}, {"phone": "1" * 21}]
    response = mark.request("POST", "/presets/welcome/check", {"rows": rows})
    errors = {(error["row"], error["pointer"]) for error in response.json["errors"]}
    assert errors == {(1, "/phone"), (1, "/x"), (2, "/phone")}
    refused = mark.request("POST", "/presets/outside/check", {"rows": [{}]}).json["errors"]
    assert refused == [{"row": 0, "pointer": "", "detail": "Sidekey refuses this request (credential_unavailable)"}]
    assert mark.request("POST", "/presets/secret/check", {"rows": rows}).code == "forbidden"
    for wrong in ([], [{}] * 101):
        assert mark.request("POST", "/presets/welcome/check", {"rows": wrong}).pointers == {"/rows"}
    assert mark.request("POST", "/presets/event/check", {"rows": [{}]}).json["errors"][0]["pointer"] == ""

    for number, word in ((1, "200"), (2, "404"), (3, "cut")):
        body = mark.send("welcome", f"{batch['id']}-{number}", batch, phone=word).json
        assert body["batch"] == {**batch, "row": number}
    entry = last_audit_entry(running)
    assert (entry["action"], entry["outcome"]) == ("send batch", "started")
    assert entry["fields"] == [f"batch:{batch['id']}", "rows:1-4"]
    body = mark.get(f"/batches/{batch['id']}")
    assert body == running.by("viewer").get(f"/batches/{batch['id']}")
    assert (body["rows"], body["last_row"], body["preset"], body["who"]) == (4, 3, "welcome", "mark")
    assert body["outcomes"] == {"accepted": 1, "refused": 1, "unknown": 1}
    assert body["others"] == [
        {"row": 2, "outcome": "refused", "status": 404},
        {"row": 3, "outcome": "unknown", "status": None},
    ]
    newest, before_it = mark.get("/sends")["items"][:2]
    assert (newest["batch"]["row"], before_it["batch"]) == (3, None)
    assert running.by("anna").request("GET", f"/batches/{batch['id']}").code == "not_found"

    # The key contains the row number, and a batch has one sender and one preset.
    for key in (new_key(), *(f"{batch['id']}-{number}" for number in ("0", "5", "1001", "01"))):
        assert mark.send("welcome", key, batch, phone="200").pointers == {"/batch"}
    assert mark.send("welcome", None, {"id": "b", "rows": 0}, phone="200").pointers == {"/batch/id", "/batch/rows"}
    for by, preset in ((running.by("anna"), "welcome"), (mark, "closed")):
        parameters = {"phone": "200"} if preset == "welcome" else {}
        assert by.send(preset, f"{batch['id']}-4", batch, **parameters).pointers == {"/batch/id"}
    assert running.upstream.words[before:] == ["200", "404", "cut"]


def test_batch_has_no_more_rows_than_its_audit_entry_says(running: SendSetup, mark: SendApi) -> None:
    """Sidekey refuses repeated row numbers, and rows after a day."""
    batch, before = {"id": secrets.token_hex(16), "rows": 900}, len(running.upstream.words)

    def send(row: int, rows: int = 900) -> ApiResponse:
        return mark.send("welcome", f"{batch['id']}-{row}", {**batch, "rows": rows}, phone="200")

    assert send(899).json["outcome"] == "accepted"
    assert last_audit_entry(running)["fields"] == [f"batch:{batch['id']}", "rows:899-900"]
    for row, rows in ((1, 900), (898, 900), (900, 1000), (950, 1000)):
        assert send(row, rows).pointers == {"/batch/id"}
    sql(running.folder, f"UPDATE sidekey_sends SET at = at - 86400000 WHERE batch = '{batch['id']}'")
    assert send(900).pointers == {"/batch/id"}
    sql(running.folder, f"UPDATE sidekey_sends SET at = at + 86400000 WHERE batch = '{batch['id']}'")
    assert send(900).json["outcome"] == "accepted"
    assert len(running.upstream.words) - before == 2


def test_altered_rows_are_listed_as_unknown(running: SendSetup, mark: SendApi) -> None:
    key = new_key()
    mark.send("welcome", key, phone="200")
    columns = "outcome = 'x', at = 9000000000000000000, status = 'x', ms = -1, who = x'ff', request_id = 7"
    row = sql(running.folder, f"SELECT * FROM sidekey_sends WHERE \"key\" = '{key}'")[0]
    sql(running.folder, f"UPDATE sidekey_sends SET {columns}, batch = '{'b' * 32}' WHERE seq = {row[0]}")
    try:
        assert mark.get(f"/sends/{key}")["outcome"] == "unknown"
        assert mark.get("/sends")["items"][0]["key"] == key
        assert mark.get(f"/batches/{'b' * 32}")["outcomes"] == {"unknown": 1}
    finally:
        sql(running.folder, f"DELETE FROM sidekey_sends WHERE seq = {row[0]}")


def test_test_of_a_draft_counts_as_a_send(running: SendSetup) -> None:
    editor = running.by("editor")
    url = f"http://127.0.0.1:{running.upstream.server.port}/draft/202"
    draft = {"integration": "sms", "url": url, "body": {"json": {"a": 1}}}
    assert editor.request("POST", "/drafts/preset/test", draft).json["ok"]
    item = editor.get("/sends")["items"][0]
    assert (item["preset"], item["outcome"], item["status"]) == (None, "accepted", 202)
    assert item["key"].startswith("draft-")
    entry = last_audit_entry(running)
    assert (entry["action"], entry["outcome"]) == ("test", "ok")


@pytest.mark.parametrize("number", ["1.10", "12345678901234567.89", "1E-7"])
def test_number_keeps_its_digits(running: SendSetup, number: str) -> None:
    """A double would change the digits."""
    admin, name = running.by("admin"), f"exact-{secrets.token_hex(4)}"
    url = admin.get("/presets/event")["url"]
    document = {"integration": "sms", "parameters": {"amount": {"type": "number"}}, "url": url, "id": name}
    admin.create("/presets", {**document, "body": {"json": {"amount": "{{amount}}"}}})

    def body(parameters: str) -> bytes:
        return f'{{"parameters": {parameters}}}'.encode()

    key = new_key()
    assert admin.post(name, body(f'{{"amount": {number}}}'), key).json["outcome"] == "accepted"
    assert running.upstream.requests[-1].body.decode() == f'{{"amount":{number}}}'
    for other in (f"{number}0", f'"{number}"'):
        assert admin.post(name, body(f'{{"amount": {other}}}'), key).code == "key_reused"
    assert admin.post(name, body(f'{{"amount": [{number}]}}')).pointers == {"/parameters/amount"}
    assert admin.post(name, body('{"amount": 1e9999999999999999999}')).code == "malformed"
    checked = admin.request(
        "POST", f"/presets/{name}/check", f'{{"rows": [{{"amount": {number}}}, {{"amount": "x"}}]}}'.encode()
    )
    assert [error["row"] for error in checked.json["errors"]] == [1]


def test_revoked_grant_stops_a_batch(running: SendSetup) -> None:
    """The sender can still read the previous rows."""
    admin, batch = running.by("admin"), {"id": secrets.token_hex(16), "rows": 2}
    grants = {"role": "sender", "presets": ["welcome"], "own_token": admin.token}
    created = admin.create("/tokens", {"name": "granted", **grants})
    sender = SendApi(admin.port, created["token"])
    assert sender.send("welcome", f"{batch['id']}-1", batch, phone="200").json["outcome"] == "accepted"
    change = {"presets": ["closed"], "own_token": admin.token}
    assert admin.request("PATCH", "/tokens/granted", change, match='"1"').status == 200
    refused = sender.send("welcome", f"{batch['id']}-2", batch, phone="200")
    assert (refused.status, refused.code) == (403, "forbidden")
    assert sender.get(f"/batches/{batch['id']}")["last_row"] == 1
    assert [item["id"] for item in sender.get("/forms")["items"]] == ["closed"]
