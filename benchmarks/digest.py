"""The figures in README.md: a digest of results.json, written by each run of all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.table import align

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"

_COLUMNS = {"sidekey": "Sidekey", "sidekey pure": "Sidekey, pure", "envoy": "Envoy", "nginx": "nginx"}

_US = "CPU us a request"
_COMPARED = (
    ("requests/s, http upstream, 32 connections", "http32", "requests/s"),
    ("CPU microseconds a request", "http32", _US),
    ("requests/s, http upstream, 256 connections", "http256", "requests/s"),
    ("requests/s, https upstream, kept connections", "https32", "requests/s"),
    ("CPU microseconds a request, 7,000 requests/s", "pace7000", _US),
    ("CPU microseconds a request, 7,000 requests/s, https upstream", "pace7000tls", _US),
    ("requests/s, upstream with a client certificate, 32 connections", "mtls32", "requests/s"),
    ("CPU microseconds, new caller connection a request", "newconn", _US),
    ("CPU microseconds, new upstream connection with a client certificate", "newmtls", f"{_US}, client certificate"),
    ("requests/s, kept tunnels, https upstream, 32 connections", "tunnel32", "requests/s"),
    ("CPU microseconds a request in a kept tunnel", "tunnel32", _US),
    ("the same, to that at the reverse proxy", "tunnel32", "CPU / CPU at the reverse proxy"),
    ("KiB for each idle tunnel", "tunnelidle", "KiB a tunnel"),
    ("p50 at one connection, ms", "conns1", "p50 ms"),
    ("microseconds an exchange, without sockets", "core", "us an exchange, best round"),
    ("worst target, query or head, CPU ms", "worst", "target, query or head, CPU ms"),
    ("worst body into which a token goes, CPU ms", "worstbody", "body, CPU ms"),
    ("resident memory, idle, MB", "idle", "RSS idle MB"),
    ("start to first response, s", "idle", "start to first response s"),
    ("KiB for each of 5,000 requests in flight", "inflight5000", "KiB a request in flight"),
    ("1 GB response, MB/s", "bulk", "1 GB response, MB/s"),
    ("1 GB upload, MB/s", "bulk", "1 GB upload, MB/s"),
)
_ALONE = (
    ("exchange with a token, to one with Basic, without sockets", "oauth2warm", "oauth2 / basic, best rounds"),
    ("microseconds to search a response head for secrets", "redaction", "us a response head, best round"),
    ("token requests for 500 requests at once without a token", "oauth2cold", "token requests"),
    ("expired tokens that reach the upstream, tokens of 2 s", "oauth2life", "expired tokens at the upstream"),
    ("p99 with tokens of 2 s, to that with long ones", "oauth2life", "p99, short / long life"),
    ("CPU microseconds a token call", "oauth2calls", "CPU us a token call"),
    ("new connections a token call", "oauth2calls", "new connections a token call"),
    ("renewals in any 60 s, every response a 401", "oauth2storm", "forced, most in any 60 s"),
    ("1,000 client certificates: load, s", "mtls1000", "load, s more than one"),
    ("KiB each, after one use", "mtls1000", "KiB each, used once"),
    ("KiB each, while its connection is kept", "mtls1000", "KiB each, connection kept"),
    ("new tunnels/s with a request each, one host", "tunnelnew", "tunnels/s, warm"),
    ("new tunnels/s with a request each, each to a new host", "tunnelnew", "tunnels/s, cold"),
    ("p99.9 of others beside 100 new hosts a second, ms more", "tunnelhosts", "p99.9 ms more beside new hosts"),
    ("reload of 10,000 integrations, one changed: s, slowest of ten", "reload10k", "reload s, slowest"),
    ("CPU s of such a reload", "reload10k", "CPU s a reload"),
    ("p99.9 of requests during such a reload, 1,000 requests/s, ms", "reload10k", "p99.9 ms during a reload"),
    ("failed requests in reloads under load", "reload10k", "failed requests"),
    ("memory after 100 reloads, to that after 10", "reloads100", "RSS after 100 / after 10"),
    ("10,000 stored integrations: start to first response, s", "store10k", "start to first response s"),
    ("a change of one by the API: s until it is in use, slowest of ten", "store10k", "change s, slowest"),
    (
        "p99.9 of requests beside changes and lists, 1,000 requests/s, ms",
        "store10k",
        "p99.9 ms, beside changes and lists",
    ),
    ("MB that an empty store takes", "store10k", "RSS idle, MB more with an empty store"),
    ("MB that the console takes, once its pages were read", "console10k", "RSS MB more after the first pages"),
    (
        "10,000 stored integrations: a page of the console that finds none, ms",
        "console10k",
        "searched without a match ms, slowest",
    ),
    ("p99.9 of requests beside ten pages a second, 1,000 requests/s, ms", "console10k", "p99.9 ms, beside pages"),
)

Line = Mapping[str, Any]


def publish(readme: str, results: Mapping[str, Any]) -> str:
    """The text of README.md with the digest of these results between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md must contain {BEGIN} and {END}")
    return f"{before}{begin}\n\n{digest(results)}\n\n{end}{after}"


def digest(results: Mapping[str, Any]) -> str:
    """Two tables: Sidekey beside its peers, and what only Sidekey does. Figures that were not measured are left out."""
    machine, columns = results["machine"], [name for name in _COLUMNS if name in results["versions"]]
    compared = [
        [text, *(_number(line["values"].get(name)) for name in columns), *_reach(line)]
        for text, line in _lines(results, _COMPARED)
    ]
    alone = [[text, _number(line["values"].get("sidekey")), *_reach(line)] for text, line in _lines(results, _ALONE)]
    versions = ", ".join(f"{name} {results['versions'][name]}" for name in columns)
    return "\n\n".join(
        (
            f"1 KB POST, 200 byte response, one core ({machine['processor']}), Python {machine['python']}; {versions}.",
            align(["figure", *(_COLUMNS[name] for name in columns), "reach", "measured"], compared),
            align(["figure", "Sidekey alone", "reach", "measured"], alone),
            "The whole table of that run is in [benchmarks/results.json](benchmarks/results.json).",
        )
    )


def _lines(results: Mapping[str, Any], chosen: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, Line]]:
    for text, row, figure in chosen:
        for line in results["rows"].get(row, {"lines": []})["lines"]:
            if line["figure"] == figure:
                yield text, line


def _reach(line: Line) -> tuple[str, str]:
    if line["reach"] is None:
        return "", ""
    measured = _number(line["measured"])
    return line["reach"], measured if line["verdict"] == "ok" else f"{measured} {line['verdict']}".strip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"
