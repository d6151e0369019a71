"""The Send pages with mocked responses: outcomes in words, lost responses, hostile texts, every width and scheme."""

from __future__ import annotations

import json
from typing import Any, Final

from playwright.sync_api import expect

from console.test_frame import NOBODY, WHO, open_page
from support.ui import HOSTILE, Console, assert_accessible, press, problem

MARK: Final = {**WHO, "name": "mark", "identity": "token:1", "role": "sender", "presets": ["welcome"]}
SESSION: Final = {**NOBODY, "who": MARK}
PARAMETERS: Final = [
    {"name": "phone", "type": "text", "required": True, "title": "Phone", "format": "phone", "help": "With +"},
    {"name": "language", "type": "text", "required": False, "default": "en", "enum": ["en", "sk"]},
    {"name": "amount", "type": "number", "required": False, "default": 0, "title": "Amount"},
    {"name": "urgent", "type": "boolean", "required": False, "default": False, "title": "Urgent"},
]
FORM: Final = {
    "id": "welcome",
    "title": "Welcome text message",
    "help": "Greets a new member.",
    "takes": "parameters",
    "content_type": None,
    "problem": False,
    "parameters": PARAMETERS,
}
SENDS: Final = "POST /api/v1/presets/welcome/sends"


def send_result(
    outcome: str = "accepted", status: int | None = 200, code: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return a send as in a response of the API."""
    return {
        "key": "a" * 32,
        "at": "2026-11-30T10:42:07Z",
        "who": "mark",
        "label": "",
        "preset": "welcome",
        "batch": None,
        "outcome": outcome,
        "status": status,
        "code": code,
        "host": "api.example.com",
        "milliseconds": 400,
        "request_id": "7f3a-12",
        **more,
    }


def bodies(**more: Any) -> dict[str, Any]:
    return {
        "GET /api/v1/session": SESSION,
        "GET /api/v1/forms/welcome": FORM,
        "GET /api/v1/sends": {"items": [], "next": None},
        **more,
    }


RESULTS: Final = [
    (send_result(), "Accepted by api.example.com (200) in 0.4 s."),
    (send_result("refused", 401), "Tell a developer: the integration's password may have changed."),
    (send_result("refused", 422), "api.example.com did not accept the content (422)."),
    (send_result("refused", 429, retry_after=20), "Try again in 20 s."),
    (send_result("refused", 301), "api.example.com did not accept it (301)."),
    (send_result("failed", 500), "It may have acted on it."),
    (send_result("not_sent", None, "upstream_unreachable"), "Not sent: api.example.com could not be reached."),
    (send_result("not_sent", None, "credential_unavailable", host=None), "the credential is not usable now."),
    (send_result("not_sent", None, "target_denied", host=None), "Not sent: Sidekey refused it (target_denied)."),
    (send_result("unknown", None), "Unknown: it may have been sent."),
    (problem(403, "forbidden"), "You may no longer send this. Ask an admin."),
    (problem(422, "key_reused"), "This was sent before with other content."),
    (problem(429, "send_limit", errors=[{"pointer": "/per_minute", "detail": ""}]), "You have sent 60 in a minute"),
    (problem(429, "too_many"), "Several sends are still under way."),
    (problem(503, "store_unavailable"), "Not sent: Sidekey's database cannot be reached."),
    (problem(503, "stopping"), "Not sent: Sidekey is restarting."),
    (problem(409, "store_required"), "This Sidekey has no store, so it cannot send."),
]


def test_every_outcome_has_a_sentence_that_says_what_to_do(console: Console) -> None:
    responses = bodies()
    page = open_page(console, "/send/welcome", responses)
    for result, sentence in RESULTS:
        responses[SENDS] = result
        page.get_by_role("textbox", name="Phone").fill(f"+44 {sentence}")
        press(page, "Send")
        expect(page.get_by_role("group", name="Result")).to_contain_text(sentence)
        send_again = page.get_by_role("button", name="Edit and send again")
        if not isinstance(result, tuple):
            send_again.click()


def test_form_shows_errors_keeps_digits_and_asks_before_a_repeated_send(console: Console) -> None:
    wrong = [{"pointer": "/parameters/phone", "detail": "is required"}, {"pointer": "/other", "detail": "is unknown"}]
    responses = bodies(**{SENDS: problem(422, "invalid", errors=wrong)})
    page = open_page(console, "/send/welcome", responses)
    press(page, "Send")
    phone = page.get_by_role("textbox", name="Phone")
    expect(phone).to_have_accessible_description("With + Is required.")
    expect(phone).to_be_focused()
    expect(page.get_by_text("is unknown")).to_be_visible()

    # Numbers keep their digits.
    responses[SENDS] = send_result()
    page.get_by_role("textbox", name="Phone").fill("+44")
    page.get_by_role("textbox", name="Amount").fill(" 1.10 ")
    page.get_by_label("Urgent").check()
    with page.expect_request("**/sends") as request:
        press(page, "Send")
    assert request.value.post_data == ('{"parameters":{"phone":"+44","language":"en","amount":1.10,"urgent":true}}')
    assert len(request.value.headers["idempotency-key"]) == 32
    press(page, "New")
    expect(page.get_by_role("textbox", name="Phone")).to_have_value("")

    # Sending the same content within a minute needs a confirmation.
    page.get_by_role("textbox", name="Phone").fill("+45")
    press(page, "Send")
    press(page, "Edit and send again")
    press(page, "Send")
    expect(page.get_by_role("group", name="Result")).to_contain_text("You sent the same content")
    press(page, "Cancel")
    expect(page.get_by_role("textbox", name="Phone")).to_be_focused()
    press(page, "Send")
    with page.expect_request("**/sends"):
        press(page, "Send it anyway")
    expect(page.get_by_role("group", name="Result")).to_contain_text("Accepted")


class LostSends:
    """Drops requests that send. `response` is the API's response for the key of a dropped request."""

    def __init__(self, page: Any) -> None:
        self.keys: list[str] = []
        self.response = problem(404, "not_found")
        page.route("**/presets/welcome/sends", self._lose)
        page.route("**/api/v1/sends/*", self._respond)

    def _lose(self, route: Any) -> None:
        self.keys.append(route.request.headers["idempotency-key"])
        route.abort()

    def _respond(self, route: Any) -> None:
        status, body = self.response
        route.fulfill(status=status, content_type="application/json", body=json.dumps(body))


def test_lost_request_is_repeated_with_its_key_and_its_result_is_fetched(console: Console) -> None:
    page = open_page(console, "/send/welcome", bodies())
    lost = LostSends(page)
    page.get_by_role("textbox", name="Phone").fill("+44")
    press(page, "Send")
    expect(page.get_by_text("No connection to Sidekey. Asking again…")).to_be_visible()
    result = page.get_by_role("group", name="Result")
    expect(result).to_contain_text("Sidekey has not received it.")
    expect(page.get_by_role("textbox", name="Phone")).to_be_disabled()
    lost.response = (200, send_result())
    press(page, "Send")
    expect(result).to_contain_text("Accepted by api.example.com (200)")
    assert len(lost.keys) == 2
    assert len(set(lost.keys)) == 1


def test_changing_a_send_of_unknown_outcome_asks_and_uses_a_new_key(console: Console) -> None:
    page = open_page(console, "/send/welcome", bodies())
    lost = LostSends(page)
    page.get_by_role("textbox", name="Phone").fill("+44")
    press(page, "Send")
    press(page, "Edit")
    page.get_by_text("It may still arrive. Send the changed content all the same?").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Edit").click()
    press(page, "Send")
    result = page.get_by_role("group", name="Result")
    expect(result).to_contain_text("You sent the same content")
    page.get_by_role("textbox", name="Phone").fill("+45")
    press(page, "Send")
    expect(result).to_contain_text("Sidekey has not received it.")
    assert len(set(lost.keys)) == 2


def test_unusable_form_and_empty_list_have_a_message(console: Console) -> None:
    responses = bodies(**{"GET /api/v1/forms": {"items": [], "next": None}})
    page = open_page(console, "/send", responses)
    expect(page.get_by_text("You may not send anything yet. Ask an admin for a preset.")).to_be_visible()
    unusable = {**FORM, "problem": True}
    responses |= {"GET /api/v1/forms": {"items": [unusable], "next": None}, "GET /api/v1/forms/welcome": unusable}
    page.reload()
    expect(page.get_by_text("Cannot be sent now")).to_be_visible()
    page.get_by_role("link", name="Welcome text message").click()
    expect(page.get_by_text("Cannot be sent now. Tell a developer.")).to_be_visible()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()


def test_send_pages_are_accessible(console: Console) -> None:
    """They have hostile texts, every width and both schemes."""
    hostile = [
        {
            "name": f"p{number}",
            "type": "text",
            "required": True,
            "title": text,
            "help": text,
            "example": text[:100],
            "enum": choices,
        }
        for number, text in enumerate(HOSTILE)
        for choices in (None, [text, "b"], [text, *"bcdefg"])
    ]
    named = [{**parameter, "name": f"p{number}"} for number, parameter in enumerate(hostile)]
    form = {**FORM, "title": HOSTILE[0], "help": HOSTILE[1], "parameters": named}
    batch = {"id": "b" * 32, "row": 4, "rows": 9}
    results = [
        send_result("refused", 401, host=HOSTILE[2][:200]),
        send_result("unknown", None, request_id=HOSTILE[0]),
        send_result(batch=batch),
    ]
    items = [{**result, "key": str(number) * 32} for number, result in enumerate(results)]
    file = {
        "id": batch["id"],
        "preset": "welcome",
        "who": "mark",
        "label": "",
        "begun_at": "2026-11-30T10:42:07Z",
        "ended_at": "2026-11-30T10:42:07Z",
        "rows": 9,
        "last_row": 4,
        "outcomes": {"accepted": 2, "refused": 1, "unknown": 1},
        "others": [{"row": 2, "outcome": "refused", "status": 422}, {"row": 4, "outcome": "unknown", "status": None}],
    }
    responses = bodies(
        **{
            "GET /api/v1/forms": {
                "items": [{**form, "id": f"f{number}", "title": text} for number, text in enumerate(HOSTILE)],
                "next": "f9",
            },
            "GET /api/v1/forms/welcome": form,
            "GET /api/v1/sends": {"items": items, "next": "1"},
            f"GET /api/v1/batches/{batch['id']}": file,
            SENDS: problem(
                422,
                "invalid",
                errors=[{"pointer": f"/parameters/p{number}", "detail": "is wrong"} for number in range(15)],
            ),
            "POST /api/v1/presets/welcome/check": {"errors": [{"row": 0, "pointer": "/p0", "detail": HOSTILE[0]}]},
        }
    )
    page = open_page(console, "/send", responses)
    page.get_by_text("A file: 3 rows were sent, up to row 3 of 9, row 4 is unknown").wait_for()
    assert_accessible(page)
    page.goto(f"{console.base}/ui/send/welcome")
    press(page, "Send")
    page.get_by_role("group", name="Result").wait_for()
    assert_accessible(page)
    page.goto(f"{console.base}/ui/send/welcome?tab=sends")
    page.get_by_role("button", name="Go on at row 5").wait_for()
    page.get_by_text("Rows that were not accepted").click()
    assert_accessible(page)
    page.goto(f"{console.base}/ui/send/welcome?tab=csv")
    names = ",".join(f"p{number}" for number in range(15))
    row = ",".join(['"' + HOSTILE[0].replace('"', '""') + '"'] * 15)
    csv_file = {"name": "members.csv", "mimeType": "text/csv", "buffer": f"{names}\n{row}\n{row}\n".encode()}
    page.get_by_label("CSV file").set_input_files(csv_file)
    page.get_by_text("1 row cannot be sent and is left out:").wait_for()
    assert_accessible(page)


def test_failing_integration_is_shown_to_viewers_only(console: Console) -> None:
    failing = {
        "GET /api/v1/presets/welcome": {"id": "welcome", "integration": "sms"},
        "GET /api/v1/integrations/sms": {"id": "sms", "status": "failing"},
    }
    warning = "The integration of this preset is failing"
    page = open_page(console, "/send/welcome", bodies(**failing))
    page.get_by_label("Phone").wait_for()
    assert page.get_by_text(warning).count() == 0
    session = {**SESSION, "who": {**MARK, "role": "editor", "presets": None}}
    console.fixture(page, {"GET /api/v1/session": session})
    page.reload()
    page.get_by_text(warning).wait_for()
    assert page.get_by_role("link", name="See why").get_attribute("href") == "/ui/integrations/sms"
    assert_accessible(page)
