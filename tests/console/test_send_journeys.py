"""A person logs in, sends presets once and from a CSV file, and reads outcomes: with a real Sidekey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Semaphore
from typing import Any, Final

import pytest
from playwright.sync_api import expect

from support.api import TOKENS, basic
from support.http_get import wait_until
from support.ui import Console, press

NUMBERS: Final = count(1)


@dataclass(frozen=True)
class Sender:
    """A sender, the preset that it may send, and the IDs of both."""

    console: Console
    token: str
    preset: str

    def open(self, path: str = "") -> Any:
        """Open a page of the preset, in a separate browser."""
        page = self.console.browser(None)
        self.console.log_in(page, self.token)
        page.goto(f"{self.console.base}/ui/send/{self.preset}{path}")
        return page

    def log_in(self, page: Any) -> None:
        page.get_by_label("Token", exact=True).fill(self.token)
        page.get_by_role("button", name="Log in", exact=True).click()

    @property
    def phones(self) -> list[str]:
        """Return the phone numbers that the upstream received, in order."""
        return [request.json["to"] for request in self.console.upstream.received]

    @contextmanager
    def responses_held(self, responses: int) -> Iterator[None]:
        """Let the upstream send a number of responses, and hold the next one until the end of the block."""
        upstream = self.console.upstream
        upstream.permits = held = Semaphore(responses)
        try:
            yield
        finally:
            upstream.permits = None
            held.release()


@pytest.fixture
def sender(console: Console) -> Iterator[Sender]:
    number = next(NUMBERS)
    api = console.api("admin")
    api.post("/integrations", {"id": f"sms-{number}", **basic(console.upstream.port)})
    preset = {
        "id": f"welcome-{number}",
        "title": f"Welcome {number}",
        "integration": f"sms-{number}",
        "url": f"{console.upstream.url}/v1/send",
        "parameters": {
            "phone": {"type": "text", "title": "Phone", "format": "phone", "max_length": 20},
            "first": {"type": "text", "title": "First name"},
            "amount": {"type": "number", "default": 0},
            "language": {"type": "text", "enum": ["en", "sk"], "default": "en"},
        },
        "body": {
            "json": {"to": "{{phone}}", "text": "Hello {{first}}", "amount": "{{amount}}", "language": "{{language}}"}
        },
    }
    api.post("/presets", preset)
    grants = {"role": "sender", "presets": [preset["id"]], "per_minute": 600, "per_day": 2000}
    token = api.post("/tokens", {"name": f"mark-{number}", "own_token": TOKENS["admin"], **grants})["token"]
    yield Sender(console, token, str(preset["id"]))


def expect_text(page: Any, text: str) -> Any:
    """Expect a text on the page, beside the live region that repeats it."""
    return expect(page.locator("main").get_by_text(text))


def test_sender_finds_fills_in_and_sends_a_preset(sender: Sender) -> None:
    page = sender.open()
    page.get_by_role("link", name="Send", exact=True).first.click()
    page.get_by_role("link", name="Welcome").click()
    page.get_by_label("Phone").fill("+44 7700 900123")
    page.get_by_label("First name").fill("Zoë 🎉")
    page.get_by_label("amount").fill("1.10")
    page.get_by_label("sk").check()
    page.get_by_role("button", name="Send", exact=True).dblclick()
    result = page.get_by_role("group", name="Result")
    expect(result).to_contain_text("Accepted by 127.0.0.1 (200) in ")
    (received,) = sender.console.upstream.received
    assert received.body.decode() == '{"to":"+44 7700 900123","text":"Hello Zoë 🎉","amount":1.10,"language":"sk"}'
    press(page, "Edit and send again")
    page.get_by_label("Phone").fill("x" * 21)
    press(page, "Send")
    expect(page.get_by_label("Phone")).to_have_accessible_description("Must have at most 20 characters.")
    sender.console.upstream.status = 422
    page.get_by_label("Phone").fill("+44")
    press(page, "Send")
    expect(result).to_contain_text("127.0.0.1 did not accept the content (422).")
    page.get_by_role("link", name="Your sends").click()
    expect(page.get_by_role("listitem").filter(has_text="Accepted by 127.0.0.1 (200)")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="did not accept the content (422)")).to_be_visible()
    page.get_by_role("link", name="Send", exact=True).first.click()
    page.get_by_role("heading", name="Your last sends").wait_for()


def test_lost_response_is_fetched_and_nothing_is_sent_twice(sender: Sender) -> None:
    page = sender.open()
    page.get_by_label("Phone").fill("+44")
    page.get_by_label("First name").fill("Zoë")

    def lose(route: Any) -> None:
        # Playwright sends this request, so the header that browsers add must be set.
        route.fetch(headers={**route.request.all_headers(), "Sec-Fetch-Site": "same-origin"})
        route.abort()

    page.route("**/sends", lose)
    press(page, "Send")
    expect(page.get_by_role("group", name="Result")).to_contain_text("Accepted by 127.0.0.1 (200)")
    assert sender.phones == ["+44"]


def test_form_survives_the_end_of_a_session(sender: Sender) -> None:
    page = sender.open()
    page.get_by_label("Phone").fill("+44")
    page.get_by_label("First name").fill("Zoë")
    page.context.clear_cookies()
    press(page, "Send")
    page.get_by_text("Your session has ended.").wait_for()
    assert sender.phones == []
    sender.log_in(page)
    expect(page.get_by_role("group", name="Result")).to_contain_text("Accepted")
    assert sender.phones == ["+44"]


def csv_file(rows: int, **cells: str) -> dict[str, Any]:
    """Build a file with a number of rows. `cells` replace phone numbers by row, such as `row7`."""
    lines = [f"{cells.get(f'row{row}', f'+4477{row:08}')};Zoë {row};=1+1" for row in range(1, rows + 1)]
    text = "\ufeff" + "\r\n".join(["phone;First name;note", *lines])
    return {"name": "members.csv", "mimeType": "text/csv", "buffer": text.encode()}


def phone(row: int) -> str:
    return f"+4477{row:08}"


def test_file_is_checked_before_the_first_row_is_sent(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    file = page.get_by_label("CSV file")
    for text, error in (
        (b"phone,phone\n1,2", "Two columns are called phone. Rename one."),
        (
            "phone,first\n1,2".encode("utf-16"),
            "This is not a CSV file in UTF-8. In Excel, save it as “CSV UTF-8 (Comma delimited)”.",
        ),
        (b"phone,first\n" + 1001 * b"1,2\n", "The file has more than 1,000 rows. Split it."),
    ):
        file.set_input_files({"name": "wrong.csv", "mimeType": "text/csv", "buffer": text})
        expect(file).to_have_accessible_description(
            f"Comma or semicolon, UTF\u20118, at most 1,000 rows. You can also drop the file here. {error}"
        )
    with page.expect_download() as download:
        press(page, "Download an empty file")
    assert download.value.path().read_text(encoding="utf-8-sig") == "Phone,First name,amount,language\n"
    file.set_input_files(csv_file(120, row17="  ", row110="x" * 21, row40=phone(12), row50="4.47701E+11"))
    errors = page.locator("section").filter(has_text="2. Check")
    expect(errors).to_contain_text("2 rows cannot be sent and are left out:")
    expect(errors).to_contain_text("Row 17 (line 18, Zoë 17): Phone is required")
    expect(errors).to_contain_text(f"Row 110 (line 111, {'x' * 21}, Zoë 110): Phone must have at most 20 characters")
    expect(errors).to_contain_text("Row 50: Phone is 4.47701E+11")
    expect(errors).to_contain_text("Without a column: amount is 0, language is en.")
    expect(page.get_by_role("button", name="Send the 118 good rows")).to_be_enabled()
    with page.expect_file_chooser() as chooser:
        press(page, "Choose another file")
    chooser.value.set_files(csv_file(1, row1=""))
    expect(errors).to_contain_text("No row can be sent. Correct the file, and choose it again:")
    expect(page.get_by_role("heading", name="3. Send")).to_be_hidden()
    assert sender.phones == []


def test_rows_with_errors_and_accepted_rows_are_not_sent(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    file = page.get_by_label("CSV file")
    page.get_by_label("CSV file").set_input_files(csv_file(6, row2="", row6="x" * 21))
    assert file.evaluate("input => input.files[0].name") == "members.csv"
    sender.console.upstream.status = 422
    press(page, "Send the 4 good rows")
    result = page.locator("section").filter(has_text="4. Result")
    expect_text(page, "Done: 0 of 4 rows were accepted.").to_be_visible()
    expect(result).to_contain_text(
        f"Row 1 (line 2, {phone(1)}, Zoë 1): 127.0.0.1 did not accept the content (422). Request "
    )
    expect(result).to_contain_text("Row 2 (line 3, Zoë 2): left out. Phone is required")
    expect(result).to_contain_text("Compare each field with its help and example.")
    # Only the last row was left out, so there is no row to go on with.
    page.get_by_role("link", name="Your sends").click()
    page.get_by_text("A file: 4 rows were sent, up to row 5").wait_for()
    expect(page.get_by_role("button", name="Go on")).to_have_count(0)
    page.get_by_role("link", name="From a CSV file").click()
    sender.console.upstream.status = 200
    file.set_input_files(csv_file(4))
    press(page, "Send 4 rows")
    expect_text(page, "Done: 4 of 4 rows were accepted.").to_be_visible()
    with page.expect_download() as download:
        press(page, "Download the result")
    result_file = download.value.path()
    # The page remembers which contents it sent. After a reload only the file of results has them.
    file.set_input_files(csv_file(6))
    before = page.get_by_label("Leave out 4 rows that were accepted before")
    expect(before).to_be_checked()
    expect(page.get_by_role("button", name="Send 2 rows")).to_be_enabled()
    page.reload()
    file.set_input_files(csv_file(4))
    expect_text(
        page, re.compile("You sent a file up to row 4 .* If it is this file, rows 1 to 4 would be")
    ).to_be_visible()
    page.get_by_text("Start at another row").click()
    page.get_by_label("Start at row").fill("4")
    expect_text(page, re.compile("You sent a file up to row 4 .* If it is this file, row 4 would be")).to_be_visible()
    file.set_input_files(result_file)
    expect(before).to_be_checked()
    expect(page.get_by_role("button", name="Send 0 rows")).to_be_disabled()
    before.uncheck()
    expect(page.get_by_role("button", name="Send 4 rows")).to_be_enabled()


def test_mapping_of_columns_is_kept_for_the_next_file(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    file = {"name": "members.csv", "mimeType": "text/csv", "buffer": b"Phone,Name\n1,Ann\n"}
    page.get_by_label("CSV file").set_input_files(file)
    expect_text(page, "No column goes to First name, which is required.").to_be_visible()
    page.get_by_label("Column Name").select_option("First name")
    expect(page.get_by_role("button", name="Send 1 row")).to_be_enabled()
    page.get_by_label("CSV file").set_input_files(file)
    expect(page.get_by_role("button", name="Send 1 row")).to_be_enabled()
    # A field that was chosen for another file can be wrong for this one.
    file["buffer"] = b"Phone,Name,Note\n1,Ann,x\n2,Bob,en\n3,Cid,y\n"
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_label("Column Note").select_option("language")
    for _ in range(2):
        expect_text(page, "2 rows cannot be sent and are left out:").to_be_visible()
        expect(page.get_by_label("Column Note")).to_be_visible()
        expect(page.get_by_role("region", name="Preview").get_by_role("rowheader")).to_have_text(["Row 2"])
        page.get_by_label("CSV file").set_input_files(file)


def test_file_is_sent_row_by_row_with_pause_stop_and_a_result(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    page.get_by_label("CSV file").set_input_files(csv_file(20))
    with sender.responses_held(3):
        press(page, "Send 20 rows")
        page.get_by_role("link", name="Your sends").click()
        expect_text(page, "Sending… A file: ").to_be_visible()
        expect(page.get_by_role("button", name="Go on")).to_have_count(0)
        page.get_by_role("link", name="From a CSV file").click()
        press(page, "Pause")
    expect_text(page, "Paused.").to_be_visible()
    paused = len(sender.phones)
    # The file and its position stay while another tab of the page is open.
    page.get_by_role("link", name="Your sends").click()
    assert len(sender.phones) == paused < 20
    # It continues from there without another question.
    with sender.responses_held(3):
        press(page, f"Go on at row {paused + 1}")
        press(page, "Pause")
    expect_text(page, "Paused.").to_be_visible()
    assert paused < len(sender.phones) < 20
    paused = len(sender.phones)
    press(page, "Stop")
    expect(page.get_by_label("Start at row")).to_have_value(str(paused + 1))
    with sender.responses_held(3):
        press(page, f"Send {20 - paused} rows")
        press(page, "Stop")
    expect_text(page, "Stopped.").to_be_visible()
    next_row = len(sender.phones) + 1
    expect(page.get_by_label("Start at row")).to_have_value(str(next_row))
    with page.expect_download() as download:
        press(page, "Download the result")
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert (
        lines[0]
        == "Sidekey: row;phone;First name;note;Sidekey: outcome;Sidekey: status;Sidekey: time;Sidekey: request ID"
    )
    assert lines[1].startswith(f"1;'{phone(1)};Zoë 1;'=1+1;accepted;200;20")
    assert lines[next_row] == f"{next_row};'{phone(next_row)};Zoë {next_row};'=1+1;not sent yet;;;"
    press(page, f"Send {21 - next_row} rows")
    expect_text(page, f"Done: {21 - next_row} of {21 - next_row} rows were accepted.").to_be_visible()
    assert sender.phones == [phone(row) for row in range(1, 21)]
    page.get_by_label("CSV file").set_input_files(csv_file(20))
    expect(page.get_by_label("Leave out 20 rows that were accepted before")).to_be_checked()


def test_resumed_batch_sends_no_row_twice(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    file = csv_file(20)
    page.get_by_label("CSV file").set_input_files(file)
    with sender.responses_held(9):
        press(page, "Send 20 rows")
        wait_until(lambda: len(sender.phones) == 10)
        page.context.close()
    page = sender.open("?tab=sends")
    go_on = page.get_by_role("button", name="Go on at row")
    go_on.wait_for()
    page.reload()
    start = int(go_on.inner_text().removeprefix("Go on at row "))
    expect_text(page, f"up to row {start - 1} of 20. It may still be running.").to_be_visible()
    go_on.click()
    # The last row is recent, so another window may still send.
    page.get_by_role("dialog").get_by_role("button", name="Go on").click()
    page.get_by_text("Choose the same file again. Sidekey does not keep it.").wait_for()
    page.get_by_label("CSV file").set_input_files(csv_file(19))
    page.get_by_text(
        "This file may not be the one that you began with: its last row without an error is row 19, not 20."
    ).wait_for()
    page.get_by_label("CSV file").set_input_files(file)
    expect(page.get_by_label("Start at row")).to_have_value(str(start))
    press(page, f"Send {21 - start} rows")
    expect(page).to_have_url(re.compile(r"\?tab=csv$"))
    expect_text(page, "rows were accepted.").to_be_visible()
    assert sender.phones == [phone(row) for row in range(1, 21)]


def test_refused_credential_stops_a_file(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    page.get_by_label("CSV file").set_input_files(csv_file(5))
    sender.console.upstream.status = 403
    press(page, "Send 5 rows")
    expect_text(page, "Stopped: 127.0.0.1 refused Sidekey's credential (403).").to_be_visible()
    expect_text(page, "4 rows are left: the result says which.").to_be_visible()
    assert sender.phones == [phone(1)]


def test_batch_survives_the_end_of_a_session(sender: Sender) -> None:
    page = sender.open("?tab=csv")
    page.get_by_label("CSV file").set_input_files(csv_file(5))
    with sender.responses_held(2):
        press(page, "Send 5 rows")
        page.get_by_text("2 of 5").wait_for()
        page.context.clear_cookies()
    page.get_by_text("Your session has ended.").wait_for()
    sender.log_in(page)
    expect_text(page, "Done: 5 of 5 rows were accepted.").to_be_visible()
    assert sender.phones == [phone(row) for row in range(1, 6)]
