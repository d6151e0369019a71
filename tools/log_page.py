"""Render docs/logs.md from the tables of keys and events below; tests compare both with the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

REQUEST_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`, or `warning` where `code` or `reason` is set or `status` is 400 or more."),
    ("event", "`request`."),
    (
        "request_id",
        "The id of the request or of the CONNECT, as in `Sidekey-Request-Id` of its response and `instance` of a "
        "problem. Other log lines about it have it too.",
    ),
    (
        "integration",
        "The ID of the integration that the request names or belongs to, also where it was denied. `unknown` where it "
        "names none that is configured, `-` where it passes without a credential.",
    ),
    ("caller", "The name of the caller whose token the request gave; null where no caller is configured or known."),
    ("door", "`reverse`, `forward`, `tunnel` (a CONNECT, and each request in a tunnel) or `preset`."),
    ("method", "The method of the request; of a preset its own. Empty where the request could not be read."),
    (
        "host",
        "The host of the target, also where it was denied. Null where the target could not be read: a password may "
        "stand where the host belongs.",
    ),
    ("port", "The port of the target; null where `host` is."),
    ("status", "The status that the caller got; 0 where it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null where the upstream has responded."),
    (
        "reason",
        "The `detail` of Sidekey's own response: what the caller got, or would have got of a response that was cut. Of "
        "a tunnel that was granted: why TLS in it failed. Null without one.",
    ),
    ("error", "The error type of `Proxy-Status` (RFC 9209) of the same; null without one."),
    (
        "attempt",
        "`retried`: sent again on a new connection, since a kept one had closed. `replayed`: sent again with a newer "
        "token. `retried,replayed`: both. Null: sent once, or never.",
    ),
    (
        "trace_id",
        "The trace ID of the caller's `traceparent` (W3C Trace Context), 32 hexadecimal digits; null without a valid "
        "one.",
    ),
    (
        "peer",
        "Address and port of whoever connected to Sidekey, or `unix`, or `unknown` of who had reset the connection by "
        "then; null for a request that Sidekey itself made.",
    ),
    ("upstream", "Address and port of the connection that carried the request; null where none did."),
    (
        "duration",
        "Seconds from the first byte of the request to the last byte of its response. Of a tunnel: to its end.",
    ),
    ("grant", "Seconds that the request waited for a token or a client certificate; null where it did not."),
    ("connect", "Seconds that the request waited for a connection to the upstream; null where one was free."),
    (
        "first_byte",
        "Seconds from when the request was written to the upstream, all of it or what had come of it before the "
        "response, to the head of the response; null where none has come.",
    ),
    ("bytes_in", "Bytes of the request's body. Of a tunnel whose bytes pass: what the caller has sent."),
    ("bytes_out", "Bytes of the response with its head. Of a tunnel whose bytes pass: what the caller was sent."),
    ("preset", "The ID of the preset; only where the request came by one."),
    ("target", "Path and query, or the URL, as it came; only with `log.path: true`, and where it could be read."),
)
"""Keys of an access log line, in order, with their meanings."""


USE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`credential used`."),
    ("request_id", "The id of the request, as in its access line and in `Sidekey-Request-Id` of its response."),
    (
        "by",
        "`caller`, or `operator`: a test that Sidekey itself has sent, for the API, the console, `sidekey test` or "
        "`sidekey preset test`.",
    ),
    ("caller", "The name of the caller whose token the request gave; null where callers are not asked for one."),
    ("peer", "Address and port of whoever connected to Sidekey, or `unix` or `unknown`; null for `operator`."),
    ("integration", "The ID of the integration whose credential was sent."),
    ("preset", "The ID of the preset that the request came by; null without one."),
    ("method", "The method of the request; of a preset its own."),
    ("host", "The host that it was sent to."),
    ("port", "The port of the same."),
    ("status", "The status that the caller got; 0 where it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null where the upstream has responded."),
)
"""Keys of a `credential used` line, in order, with their meanings."""


CHANGE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`config changed`."),
    ("source", "`files`, or `store` where only what the store says has changed."),
    (
        "by",
        "Of a store: names of the operators whose changes are known to be in it. Those of other processes are not: the "
        "store's own audit has who made which `revision`.",
    ),
    ("revision", "The revision of the store; only where it has changed."),
    ("integrations", "`added`, `removed` and `changed`: lists of IDs. Likewise `presets`, and `callers` by name."),
    (
        "secrets",
        "Where secrets are written that have other values than before, such as `integrations.crm.auth.password`; never "
        "a value, length or hash. Files of client certificates are not among them: they have lines of their own.",
    ),
    ("settings", "Other keys of the config that have changed, such as `limits.in_flight`."),
    (
        "granted",
        "Who may use what since and could not before: a list of `caller`, and `integration` or `preset`; `*` stands "
        "for all.",
    ),
    (
        "widened",
        "Integrations that may reach more than before: a list of `integration`, `key` (`endpoint_prefix`, "
        "`allowed_domains`, `methods` or `allow_private`), and its values, `from` and `to`: the first 20, those first "
        "that the other lacks. The path of a prefix is `/...` where one of the integration is read from a file or a "
        "variable, since it may be a secret.",
    ),
    (
        "omitted",
        "How many entries each list has beyond its first 20; only where one has. Of `granted` and `widened`, which go "
        "on in further lines with nothing else, beyond the first 1000.",
    ),
)
"""Keys of a `config changed` line, in order, with their meanings. A line omits the keys that have no value."""


class Event(NamedTuple):
    """An event: its text, its level, its keys behind it, and what is to be known of it."""

    text: str
    level: str
    keys: tuple[str, ...] = ()
    meaning: str = ""


_WHAT: Final = ("error", "at")
"""By which an exception is described: types of the chain, and places in Sidekey's code; never a message."""

EVENTS: Final[dict[str, tuple[Event, ...]]] = {
    "Start, end, log": (
        Event(
            "listening",
            "info",
            ("proxy", "admin", "integrations"),
            "Sidekey accepts connections, and the integrations of files are in use.",
        ),
        Event(
            "Sidekey cannot start",
            "error",
            ("reason",),
            "On standard error, even with `log.file`; as plain text where lines there are for people.",
        ),
        Event(
            "the service manager cannot be notified",
            "error",
            ("reason",),
            "The socket that `NOTIFY_SOCKET` names. With `Type=notify-reload` systemd ends a service that does "
            "not report that it is ready.",
        ),
        Event("draining", "info", ("signal",), "It was asked to end."),
        Event("stopped", "info", (), "It ends."),
        Event("exchanges in flight were cut at the end of timeouts.drain", "warning", (), "Raise `timeouts.drain`."),
        Event(
            "limits.in_flight is lowered: too few file descriptors (NOFILE)",
            "warning",
            ("in_flight", "wanted", "nofile"),
            "`in_flight` is the limit that counts. Raise NOFILE. At info if it is little below the default.",
        ),
        Event(
            "log lines go to a file",
            "info",
            ("file",),
            "On standard error at the start, and in the file before after a reload: all further lines are there.",
        ),
        Event("log lines go to standard error", "info", (), "In the file before, after a reload: likewise."),
        Event("log lines were dropped", "warning", ("lines",), "How many since the last such line."),
        Event(
            "the log file cannot be written to; log lines are dropped",
            "error",
            ("file", "reason"),
            "On standard error, once for each time that it begins.",
        ),
        Event(
            "the log file cannot be opened again; the one that was renamed stays in use",
            "error",
            ("file", "reason"),
            "On standard error, after SIGUSR1.",
        ),
    ),
    "Config": (
        Event("config reloaded", "info", ("integrations", "changed", "removed", "seconds"), "It is in use."),
        Event("store reloaded", "info", ("integrations", "changed", "removed", "seconds"), "What it says is in use."),
        Event("the config has warnings; run `sidekey check` to list them", "warning", ("count",)),
        Event("config warning", "warning", ("place",), "The first 20 of them."),
        Event("the config has errors and was not reloaded; the previous one stays in use", "error", ("count",)),
        Event("config error", "error", ("place",), "Each of them, as `sidekey check` says it; also at the start."),
        Event(
            "the config was not reloaded; the previous one stays in use",
            "error",
            ("reason",),
            "It is valid, but something that it needs cannot be had.",
        ),
        Event(
            "the config was not reloaded because of a defect in Sidekey; the previous one stays in use",
            "error",
            ("defect",),
            "`defect` is the `id` of a line `defect`.",
        ),
        Event("the config was reloaded only in part because of a defect in Sidekey: restart it", "error"),
        Event(
            "secret or CA file cannot be read; what needs it is unavailable until it can be read", "error", ("place",)
        ),
        Event("client certificate must not be used; what needs it is unavailable", "error", ("place",)),
        Event("new secret or CA file cannot be used; the previous one stays in use", "error", ("integration", "place")),
        Event("preset cannot be used with its integration", "error", ("place",)),
        Event("this can never work, and requests that need it are refused", "warning", ("place",)),
        Event("other users can change a file that Sidekey trusts", "error", ("place",), "Or a folder on its path."),
        Event("the config folders cannot be watched; they are checked every few seconds", "warning"),
    ),
    "Tokens": (
        Event("a token was issued", "debug", ("integration", "life"), "`life` is in seconds."),
        Event("no token could be obtained", "warning", ("integration", "outcome", "reason"), "[tokens.md](tokens.md)"),
        Event("tokens can be obtained again", "info", ("integration", "failures"), "After so many failures."),
        Event("the upstream rejected the token; it is refreshed", "info", ("integration",)),
        Event("the upstream rejected the token, which is being refreshed", "info", ("integration",)),
        Event("the upstream invalidated the token; it is dropped", "info", ("integration",)),
        Event("the token outlives the change of its integration", "debug", ("integration",)),
        Event(
            "a call for a token did not end in time: its refresh token may be spent",
            "error",
            ("integration",),
            "[tokens.md](tokens.md)",
        ),
        Event("what a call for a token brought cannot be stored yet", "warning", ("name", "reason")),
        Event("what a call for a token brought is stored", "info", ("name",)),
        Event("what a call for a token brought could not be stored: its refresh token may be lost", "error"),
        Event(
            "clock skew: an upstream refused a signed request, and its Date differs from this machine's clock: set the "
            "clock of this machine",
            "warning",
            ("integration", "status", "ahead_s"),
            "`ahead_s`: by how many seconds this machine is ahead.",
        ),
    ),
    "Certificates": (
        Event("a client certificate was loaded", "info", ("integration", "not_after")),
        Event(
            "a client certificate could not be loaded",
            "error",
            ("integration", "reason", "old_in_use"),
            "[certificates.md](certificates.md)",
        ),
        Event("the client certificate has a warning", "warning", ("integration", "place", "warning")),
        Event("the client certificate expires soon", "warning", ("integration", "not_after", "days")),
        Event("the client certificate has expired and is not used", "error", ("integration", "not_after")),
        Event("the client certificate is valid again", "info", ("integration",)),
        Event(
            "the local CA was made",
            "info",
            ("fingerprint", "not_after", "trust_folder"),
            "[https-proxy.md](https-proxy.md), as the next ones.",
        ),
        Event(
            "a further local CA was made for hosts that none covered: callers must restart to trust it",
            "warning",
            ("hosts", "fingerprint", "not_after", "trust_folder"),
        ),
        Event("another local CA signs from now on", "info", ("signing",)),
        Event("a local CA expires soon: replace it (sidekey ca rotate)", "warning", ("not_after", "days")),
        Event(
            "the CA of ca.certificate expires soon: renew it where it was issued",
            "warning",
            ("not_after", "days"),
            "Sidekey uses the renewed one as soon as the files change.",
        ),
        Event("a local CA has expired", "error", ("not_after",)),
        Event(
            "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
            "warning",
            ("request_id", "integration", "host"),
        ),
        Event(
            "a caller asked by TLS for another host than its CONNECT did",
            "warning",
            ("request_id", "integration", "host"),
        ),
        Event(
            "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
            "warning",
            ("request_id", "integration", "host"),
        ),
    ),
    "Store": (
        Event("the store is in use", "info", ("revision",), "After it was not."),
        Event("there was no store: an empty one was made", "info", ("store",)),
        Event(
            "the store cannot be used: only what is in files is served",
            "warning",
            ("reason",),
            "Since the start: [store.md](store.md#when-it-cannot-be-reached).",
        ),
        Event("the store cannot be used: what is loaded stays in use", "warning", ("reason",), "[store.md](store.md)"),
        Event(
            "the store is not used: only what is in files is served",
            "error",
            ("reason",),
            "Since the start, it must not be believed: [store.md](store.md#verify-and-accept).",
        ),
        Event("the store is not used: what is loaded stays in use", "error", ("reason",), "[store.md](store.md)"),
        Event("a row of the store was altered and is not used", "error", ("kind", "id"), "[store.md](store.md)"),
        Event(
            "a stored integration is hidden by a file, which cannot be stored yet", "warning", ("integration", "reason")
        ),
        Event("a stored preset is hidden by a file, which cannot be stored yet", "warning", ("preset", "reason")),
        Event("what the store says is not in use because of a defect in Sidekey", "error"),
    ),
    "Defects": (
        Event(
            "defect",
            "error",
            ("request_id", "id", *_WHAT),
            "Of a request, by its id; of anything else, by an id of its own.",
        ),
        Event("uncaught exception", "critical", _WHAT),
        Event("uncaught exception in a thread", "critical", ("thread", *_WHAT)),
        Event("exception that could not be raised", "error", _WHAT),
        Event("the event loop reported an error", "error", ("message", *_WHAT)),
        Event("a library warned", "warning", ("category", "where")),
    ),
}
"""Every event of the log, by what it is about. A test compares them with the calls in the code."""

_INTRODUCTION = """\
<!-- Generated by make docs; edit tools/log_page.py instead. -->

# Logs

Sidekey logs to standard error, or to [`log.file`](config.md#log): a JSON object a line, which begins with `timestamp`,
`level` and `event`. The value of `event` is a fixed text; what varies is under keys of its own. A further version may
add keys and events. There are three kinds of lines:

- `request`: the **access log**, a line for each request that `log.access` asks for: `errors` (status 400 or more, or a
  code of Sidekey's own), `all` or `off`; whatever `log.level` says. [Its keys](#requests).
- `credential used` and `config changed`: the **audit**. A line for each use of a credential with `log.audit: uses`, and
  one for each change of the config in any case; whatever `log.level` says. [Its keys](#audit).
- Everything else: **events**, of `log.level` and above: `debug`, `info`, `warning`, `error`, `critical`. [All of
  them](#events).

No line has a secret, a token, a header, a body, or a library's message. Paths and queries of requests are there only
with `log.path: true`, since they may be secret. IDs that are not configured are never repeated.

A log never holds up a request: lines wait in 4 MiB of memory, and where whoever reads them is too slow, or the disk is
full, further ones are dropped. The log says how many (`log lines were dropped`), and so does the metric
`sidekey_log_dropped_total`. A crash loses what was not written yet, some 50 ms. Where an audit must have no gap, the
disk must have room and the reader must keep up: alert on `SidekeyLogDropped`
([runbook](runbooks.md#sidekeylogdropped)).

## For people

`log.format: auto` writes text where the log goes to a terminal, and JSON elsewhere; `text` and `json` write the one or
the other everywhere. Of a request the status, method, integration, host, code and duration come first, and keys without
a value are left out. Colours are for terminals alone; not with `NO_COLOR`, nor with `TERM=dumb`. Whatever callers or
upstreams have written, nothing in a line commands the terminal.

```text
2026-01-31 23:59:59.012Z warning request 502 POST crm api.example.com upstream_timeout 30001.2ms request_id=5f0c2ab1-1c
```

## Which line is about this response

Every response has the header `Sidekey-Request-Id`, and a response of Sidekey's own the same as `instance`. The line of
that request has it as `request_id`, and so have its line of the audit, a `defect` in it, and what went wrong in the
tunnel that it came by. `trace_id` is that of the caller's `traceparent`.

```sh
curl -si http://127.0.0.1:8080/i/crm/x | grep -i '^sidekey-request-id'
```

## Searching

`sidekey.log` stands for the log. `journalctl -u sidekey -o cat` and `kubectl logs POD -c sidekey` write the same lines;
`jq -R 'fromjson? | ...'` leaves out what is not JSON.

The line of a response that has the id `$ID`, and all others about it:

```sh
jq -c --arg id "$ID" 'select(.request_id == $id)' sidekey.log
```

The requests of a caller; the failed ones of an integration, with the reasons; how often each code and status came:

```sh
jq -c 'select(.event == "request" and .caller == "billing")' sidekey.log
jq -r 'select(.event == "request" and .integration == "crm" and (.code or .status >= 400))
  | [.timestamp, .caller, .status, .code, .reason] | @tsv' sidekey.log
jq -r 'select(.event == "request") | .code // (.status | tostring)' sidekey.log | sort | uniq -c | sort -rn
```

What took longer than a second, and where the time went:

```sh
jq -c 'select(.event == "request" and .duration > 1)
  | {request_id, integration, duration, grant, connect, first_byte}' sidekey.log
```

Who has used which credential, and how often; what changed, and what of that lets anyone do more:

```sh
jq -r 'select(.event == "credential used") | [.integration, .caller // .by] | @tsv' sidekey.log | sort | uniq -c
jq -c 'select(.event == "config changed")' sidekey.log
jq -c 'select(.event == "config changed" and (.granted or .widened)) | {timestamp, by, granted, widened}' sidekey.log
```

Errors of Sidekey itself, its config and its credentials:

```sh
jq -c 'select(.event != "request" and (.level == "error" or .level == "critical"))' sidekey.log
```

## A file, and its rotation

`log.file` is made with mode 0600 in a folder that must be there, since lines tell who calls whom; a file that is there
keeps its mode. Give others access by a group or an ACL of the file, as your log shipper needs it. In a container, log
to standard error. A file that cannot be opened keeps Sidekey from starting, and a reload from being used; `sidekey
check` says so. Standard error then has only what is wrong with the file.

SIGUSR1 opens the file again by its path, without losing a line. What was written before that is in the file that was
renamed, at most some 50 ms after the signal: so compress it only the next time. For logrotate, with a unit named
`sidekey`:

```text
/var/log/sidekey/sidekey.log {
    daily
    rotate 14
    missingok
    notifempty
    nocreate
    compress
    delaycompress
    postrotate
        systemctl kill --kill-whom=main --signal=SIGUSR1 sidekey.service
    endscript
}
```

In a unit of systemd, `/var/log/sidekey` is made by `LogsDirectory=sidekey` with `LogsDirectoryMode=0700`. Where
logrotate refuses a folder that others may write to, name its owner by `su`. Without systemd: `kill -USR1 PID`.
"""


def page() -> str:
    """Return the text of docs/logs.md: every key of every line, and how to find a line."""
    parts = [
        _INTRODUCTION,
        "## Requests\n",
        _keys(REQUEST_FIELDS),
        "## Audit\n",
        "### credential used\n",
        "With `log.audit: uses`, for each request that an upstream was sent with what an integration adds to it, or\n"
        "by a connection with its client certificate; once, at its end, however often it was sent again. None for a\n"
        "request that was denied, or for which no connection could be made. A line costs what one of the access log\n"
        "does, and half of that where both are written.\n",
        _keys(USE_FIELDS),
        "### config changed\n",
        "For each reload that changed something, of files or of the store; none at the start. Names and places alone;\n"
        "who was granted what, and which integration may reach more than before, is told with what it is.\n",
        _keys(CHANGE_FIELDS),
        "## Events\n",
        "`place` is `file:line:column: path: message`, as `sidekey check` says it, or the path alone; `reason` is a\n"
        "sentence, `not_after` a moment. `error` has types of exceptions, and `at` places in Sidekey's code.\n",
    ]
    for title, events in EVENTS.items():
        parts += [f"### {title}\n", "| event | level | keys | |\n|---|---|---|---|", *map(_row, events), ""]
    return "\n".join(parts)


def _keys(fields: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {words} |" for key, words in fields), ""])


def _row(event: Event) -> str:
    # What is set in code may hold such marks itself.
    marks = "``" if "`" in event.text else "`"
    keys = ", ".join(f"`{key}`" for key in event.keys)
    return f"| {marks}{event.text}{marks} | {event.level} | {keys} | {event.meaning} |"


def events() -> Iterator[Event]:
    """Yield every event."""
    for found in EVENTS.values():
        yield from found
