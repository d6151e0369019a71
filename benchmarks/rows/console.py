"""Rows of the console, Sidekey only: time until pages are shown in Chromium, and requests beside its users."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count, cycle
from typing import Any, Final

from playwright.sync_api import Error, sync_playwright

from benchmarks import beside
from benchmarks.arena import Arena, Running
from benchmarks.beside import line
from benchmarks.figures import P50, P99, P999, Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.load import Spread
from benchmarks.machine import find_program
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.probe import SENDER_TOKEN, TOKEN
from benchmarks.processes import MeasureFailed
from benchmarks.stored import Filled, fill

COUNT: Final = 10_000
PRESETS: Final = 2_000

PAGES: Final[Mapping[str, Mapping[str, str]]] = {
    SENDER_TOKEN: {"list of a sender": "/send", "form of a sender": "/send/p0", "sends of a sender": "/send?tab=sends"},
    TOKEN: {
        "integrations": "/integrations",
        "integrations, filtered": "/integrations?kind=basic&status=ok&tag=bench",
        "integrations, searched": "/integrations?q=T99",
        "integrations, no match": "/integrations?q=nothing",
        "integration": "/integrations/bench",
        "form of an integration": "/integrations/bench/edit",
        "kinds": "/add/integrations",
        "providers": "/providers",
        "presets": "/presets",
        "preset": "/presets/p0",
        "form of a preset": "/presets/p0/edit",
        "access": "/access",
        "form of a person": "/access/people/sender",
        "form of a caller": "/add/access/callers",
        "activity": "/activity",
        "activity, no match": "/activity?q=nothing",
    },
}
"""Pages of a sender, and those of an admin, who sees on each page the most of all roles."""

_CALLS: Final = (
    "/session /integrations?include=usage",
    "/integrations?q=T99&include=usage",
    "/session /integrations/bench /integrations/bench/usage?period=24h /integrations/bench/failures "
    "/presets?integration=bench /callers /tokens /integrations/bench/activity",
    "/session /presets",
    "/presets?q=nothing",
    "/session /audit /tokens",
    "/audit?q=nothing",
)
"""The calls of pages that people open in turn while there is a load."""

# Fetches are counted since a page makes its next call when the response of the one before is shown.
_WATCH: Final = """
let calls = 0, changed = 0;
const { fetch } = window;
window.fetch = (...request) => { calls += 1; return fetch(...request).finally(() => { calls -= 1; }); };
new MutationObserver(() => { changed = performance.now(); })
  .observe(document, { attributes: true, characterData: true, childList: true, subtree: true });
window.whenShown = async () => {
  const isShown = () => document.querySelector("main h1") && !document.querySelector("main .loading");
  while (calls || performance.now() - changed < 200 || !isShown())
    await new Promise((resolve) => setTimeout(resolve, 20));
  return changed;
};
"""
_COLD, _WARM = Figure("cold ms", 0), Figure("warm ms", 0)
_LIMIT: Final = 150
_PEOPLE: Final = 6
_WITHOUT, _WITH = "without a store", "beside the console"
_OPENED = Figure("pages opened", 0)
_OPEN = Figure("calls of a page ms, median", 1)
_ROWS = Figure("rows of a CSV file sent", 0)


@dataclass(frozen=True, slots=True)
class Pages:
    """Each page, opened `repeats` times in a new browser, and in one that has opened it before."""

    repeats: int = 10

    name = "pages10k"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"ms in Chromium from the navigation to the last change of a page, {COUNT:,} integrations and {PRESETS:,} "
            f"presets (SQLite), {self.repeats} times with a cold and with a warm cache"
        )

    def run(self, arena: Arena) -> Outcome:
        """Open all pages. Raises MeasureFailed."""
        binary = find_program("chromium-headless-shell")
        if binary is None:
            raise MeasureFailed("chromium-headless-shell is not installed")
        rounds: dict[str, list[Sample]] = {}
        with _console(arena) as running, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
            with closing(browser):
                for token, pages in PAGES.items():
                    with closing(_Person(running.job.admin_port, token)) as person:
                        for page, path in pages.items():
                            rounds[page] = self._open(browser, person, path)
        return Outcome(
            [page_line for page, times in rounds.items() for page_line in _page_lines(page, times)], rounds=rounds
        )

    def _open(self, browser: Any, person: _Person, path: str) -> list[Sample]:
        def new_page() -> Any:
            context = browser.new_context()
            context.add_init_script(_WATCH)
            context.add_cookies([{"name": person.cookie[0], "value": person.cookie[1], "url": person.base}])
            return context.new_page()

        def milliseconds(page: Any) -> float:
            try:
                page.goto(f"{person.base}/ui{path}")
                return float(page.evaluate("whenShown()"))
            except Error as error:
                raise MeasureFailed(f"{path} failed: {error}") from error

        cold = []
        for _ in range(self.repeats):
            page = new_page()
            cold.append(milliseconds(page))
            page.context.close()
        page = new_page()
        milliseconds(page)
        samples: list[Sample] = [{_COLD: milliseconds_cold, _WARM: milliseconds(page)} for milliseconds_cold in cold]
        page.context.close()
        return samples


@dataclass(frozen=True, slots=True)
class Beside:
    """A load on all integrations, without a store, and with a store and users of the console.

    Usage is written once a minute, so the load takes longer.
    """

    pace: Pace

    name = "console10k"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{self.pace.rate:,} requests/s spread over {COUNT:,} integrations, {self.pace.seconds:g} s on "
            f"{self.pace.connections} connections: without a store, and with one that gets the usage, while {_PEOPLE} "
            "people each open or search a page each second, and a seventh sends the rows of a CSV file"
        )

    def run(self, arena: Arena) -> Outcome:
        """Run the load without and with the console. Raises MeasureFailed."""
        with ExitStack() as stack:
            plain = Sidekey(tenants=COUNT - 1, callers=True)
            rounds = {_WITHOUT: [self._load(arena.start(_WITHOUT, plain, arena.upstreams["http"], stack))]}
        with _console(arena) as running, ExitStack() as stack:
            people = [stack.enter_context(closing(_Person(running.job.admin_port, TOKEN))) for _ in range(_PEOPLE)]
            sender = stack.enter_context(closing(_Person(running.job.admin_port, SENDER_TOKEN)))
            with ExitStack() as uses:
                opened = [uses.enter_context(beside.repeating(act)) for act in (_visitor(person) for person in people)]
                rows = uses.enter_context(beside.repeating(_batch(sender)))
                sample = self._load(running)
        seconds = [second for times in opened for second in times]
        used = {_OPENED: len(seconds), _OPEN: statistics.median(seconds) * 1e3, _ROWS: len(rows)}
        rounds[_WITH] = [{**sample, **used}]
        return beside.outcome(_lines(rounds), rounds)

    def _load(self, running: Running) -> Sample:
        beside.load(running, self.pace.brief())
        return beside.latencies(self.pace.run(running.job.port, "", running.peer.fields))


class _Person:
    """A user who is logged in, and calls the API as pages do, over a kept connection."""

    def __init__(self, admin_port: int, token: str) -> None:
        self.base = f"http://127.0.0.1:{admin_port}"
        self._connection = HTTPConnection("127.0.0.1", admin_port, timeout=30)
        self._fields = {"Sec-Fetch-Site": "same-origin", "Sidekey-Console": "1", "Content-Type": "application/json"}
        name, _, value = self.call("POST", "/session", {"token": token}).partition(";")[0].partition("=")
        self.cookie = name, value
        self._fields["Cookie"] = f"{name}={value}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> str:
        """Make a call, and return the cookie that it sets. Raises MeasureFailed."""
        fields = {**self._fields, "Idempotency-Key": key} if key else self._fields
        try:
            self._connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), fields)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as error:
            raise MeasureFailed(f"{method} {path} failed: {error!r}") from error
        if not 200 <= response.status < 300:
            raise MeasureFailed(f"{method} {path} responded {response.status}: {text[:300]!r}")
        return response.headers["Set-Cookie"] or ""


def _visitor(person: _Person) -> Callable[[], float]:
    """Return a function that opens the next page after a second, and returns the seconds of its calls."""
    pages = cycle(_CALLS)

    def visit() -> float:
        time.sleep(1)
        began = time.perf_counter()
        for path in next(pages).split():
            person.call("GET", path)
        return time.perf_counter() - began

    return visit


def _batch(person: _Person) -> Callable[[], str]:
    """Return a function that sends the next row of a file, within the limit of 600 a minute."""
    batch = "0" * 32
    rows = count(1)

    def send() -> str:
        time.sleep(0.12)
        body = {"parameters": {"phone": "+44", "name": "Ada"}, "batch": {"id": batch, "rows": 1000}}
        return person.call("POST", "/presets/p0/sends", body, f"{batch}-{next(rows)}")

    return send


@contextmanager
def _console(arena: Arena) -> Iterator[Running]:
    """A Sidekey with a full store, which both rows share."""
    upstream = arena.upstreams["http"]
    database = arena.folder / "console.db"
    if database.exists():
        store = Filled(database, COUNT, presets=PRESETS)
    else:
        store = fill(database, base_of(upstream), COUNT, presets=PRESETS)
    with ExitStack() as stack:
        yield arena.start("sidekey", Sidekey(store=store), upstream, stack)


def _page_lines(page: str, times: Sequence[Sample]) -> list[Line]:
    middle = medians(times)
    return [
        line(Figure(f"{page}, cold ms, median", 0), middle[_COLD]),
        line(Figure(f"{page}, warm ms, median", 0), middle[_WARM]),
        line(Figure(f"{page}, warm ms, slowest", 0), max(sample[_WARM] for sample in times), at_most(_LIMIT)),
    ]


def _lines(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    by_side = {side: medians(samples) for side, samples in rounds.items()}
    worse = {figure: by_side[_WITH][figure] - by_side[_WITHOUT][figure] for figure in (P50, P99, P999)}
    return [
        *beside.latency_lines(rounds),
        *(
            line(Figure(f"{figure.label} more", 3), value, at_most(5) if figure is P999 else None, of=_WITH)
            for figure, value in worse.items()
        ),
        *(line(figure, by_side[_WITH][figure]) for figure in (_OPENED, _OPEN, _ROWS)),
    ]


ROWS = (Pages(), Beside(Pace(2_000, 65, spread=Spread(COUNT - 1, "/i/t", "/hook"))))
