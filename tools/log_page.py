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
        "The ID of the request or CONNECT: `Sidekey-Request-Id` and `instance` of the response have it, and other "
        "lines about the request.",
    ),
    (
        "integration",
        "The ID of the integration that the request names or belongs to, even if it was denied. `unknown` if it names "
        "none that is configured, `-` if it passes without a credential.",
    ),
    (
        "caller",
        "The name of the caller that the request's token, certificate or JWT identifies; null if no caller is "
        "configured or known.",
    ),
    ("door", "`reverse`, `forward`, `tunnel` (a CONNECT, and each request in a tunnel) or `preset`."),
    ("method", "The method of the request, or of the preset. Empty if the request could not be parsed."),
    (
        "host",
        "The host of the target, even if it was denied. Null if the target could not be parsed, because it may have a "
        "password in the wrong place.",
    ),
    ("port", "The port of the target; null if `host` is null."),
    ("status", "The status that the caller got; 0 if it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null if the upstream responded."),
    (
        "reason",
        "The `detail` of Sidekey's own response, even if the response was cut before the caller got it. For an open "
        "tunnel: why TLS in it failed. For a WebSocket: why Sidekey cut it. Otherwise null.",
    ),
    ("error", "The error type of `Proxy-Status` (RFC 9209) of this response, or null."),
    (
        "attempt",
        "`retried`: sent again on a new connection, because a kept one had closed. `replayed`: sent again with a newer "
        "token. `retried,replayed`: both. Null: sent once or never.",
    ),
    (
        "trace_id",
        "The trace ID of the caller's `traceparent` (W3C Trace Context), 32 hexadecimal digits; null without a valid "
        "one.",
    ),
    (
        "peer",
        "Address and port of the client that connected to Sidekey, or `unix`; `unknown` if it has already reset the "
        "connection; null for a request that Sidekey made itself.",
    ),
    ("upstream", "Address and port of the upstream connection, or of its parent proxy; null without one."),
    (
        "duration",
        "Seconds from the first byte of the request to the last byte of its response, or to the end of a tunnel or a "
        "WebSocket.",
    ),
    ("grant", "Seconds that the request waited for a token or a client certificate, or null."),
    ("connect", "Seconds that the request waited for a connection to the upstream; null if one was free."),
    (
        "first_byte",
        "Seconds from the moment the request was written (only its head, if the response came before its end) to the "
        "head of the response; null without a response.",
    ),
    (
        "bytes_in",
        "Bytes of the request's body. For a WebSocket, and a tunnel that passes bytes: bytes from the caller.",
    ),
    (
        "bytes_out",
        "Bytes of the response with its head, and of the WebSocket behind it. For a tunnel that passes bytes: bytes to "
        "the caller.",
    ),
    ("preset", "The ID of the preset; only for requests of a preset."),
    ("target", "Path and query, or the URL, as received; only with `log.path: true`, and if it could be parsed."),
)
"""Keys of an access log line, in order, with their meanings."""

USE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`credential used`."),
    ("request_id", "The ID of the request, as in the access log and in `Sidekey-Request-Id` of its response."),
    (
        "by",
        "`caller`, or `operator` for a test from the API, the console, `sidekey test` or `sidekey preset test`.",
    ),
    (
        "caller",
        "The name of the caller that the request's token, certificate or JWT identifies; null without `callers`.",
    ),
    ("peer", "Address and port of the client that connected to Sidekey, or `unix` or `unknown`; null for `operator`."),
    ("integration", "The ID of the integration whose credential was sent."),
    ("preset", "The ID of the preset, or null."),
    ("method", "The method of the request, or of the preset."),
    ("host", "The host that Sidekey sent it to."),
    ("port", "The port of that host."),
    ("status", "The status that the caller got; 0 if it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null if the upstream responded."),
)
"""Keys of a `credential used` line, in order, with their meanings."""

CHANGE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`config changed`."),
    ("source", "`files`, or `store` if only the store has changed."),
    (
        "by",
        "For a store: the operators who made the changes, as far as this process knows. The store's own audit has the "
        "operator of each `revision`.",
    ),
    ("revision", "The revision of the store, if it has changed."),
    ("added_keys", "Keys that are new, such as `integrations.crm` or `callers.billing`."),
    ("removed_keys", "Keys that are gone."),
    (
        "changed_keys",
        "Keys with another value, such as `limits.in_flight`, `integrations.crm.endpoint_prefix` or "
        "`callers.billing.integrations`. A secret is there if its value has changed, for example "
        "`integrations.crm.auth.password`. Files of client certificates have their own lines instead.",
    ),
    ("omitted", "The number of keys that each list has beyond its first 100."),
)
"""Keys of a `config changed` line, in order, with their meanings. A line omits the keys that have no value."""


class Event(NamedTuple):
    """An event of the log. `keys` are those after `timestamp`, `level` and `event`."""

    text: str
    level: str
    keys: tuple[str, ...] = ()
    meaning: str = ""


_EXCEPTION: Final = ("error", "at")
"""Keys that describe an exception: the types of its chain and places in Sidekey's code, never a message."""

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
            "On standard error, even with `log.file`; on a terminal as plain text.",
        ),
        Event(
            "the service manager cannot be notified",
            "error",
            ("reason",),
            "The socket in `NOTIFY_SOCKET` does not work. With `Type=notify-reload`, systemd ends a service that does "
            "not report that it is ready.",
        ),
        Event("draining", "info", ("signal",), "Sidekey got the signal and shuts down."),
        Event("stopped", "info", (), "Sidekey exits."),
        Event("exchanges in flight were cut at the end of timeouts.drain", "warning", (), "Raise `timeouts.drain`."),
        Event(
            "limits.in_flight is lowered: too few file descriptors (NOFILE)",
            "warning",
            ("in_flight", "wanted", "nofile"),
            "`in_flight` is the effective limit. Raise NOFILE.",
        ),
        Event(
            "log lines go to a file",
            "info",
            ("file",),
            "On standard error at the start, or in the previous file after a reload. Further lines are in `file`.",
        ),
        Event("log lines go to standard error", "info", (), "In the previous file, after a reload."),
        Event("log lines were dropped", "warning", ("lines",), "Their number since the last such line."),
        Event(
            "the log file cannot be written to; log lines are dropped",
            "error",
            ("file", "reason"),
            "On standard error, once for each failure.",
        ),
        Event(
            "the log file cannot be opened again; the one that was renamed stays in use",
            "error",
            ("file", "reason"),
            "On standard error, after SIGUSR1.",
        ),
    ),
    "Config": (
        Event(
            "config reloaded", "info", ("integrations", "changed", "removed", "seconds"), "The new config is in use."
        ),
        Event(
            "store reloaded",
            "info",
            ("integrations", "changed", "removed", "seconds"),
            "The new content of the store is in use.",
        ),
        Event("the config has warnings; run `sidekey check` to list them", "warning", ("count",)),
        Event("config warning", "warning", ("place",), "One line for each of the first 20."),
        Event("the config has errors and was not reloaded; the previous one stays in use", "error", ("count",)),
        Event(
            "config error", "error", ("place",), "One line for each error, as in `sidekey check`; also at the start."
        ),
        Event(
            "the config was not reloaded; the previous one stays in use",
            "error",
            ("reason",),
            "The config is valid, but something that it needs is not available.",
        ),
        Event(
            "the config was not reloaded because of a defect in Sidekey; the previous one stays in use",
            "error",
            ("defect",),
            "`defect` is the `id` of a `defect` line.",
        ),
        Event("the config was reloaded only in part because of a defect in Sidekey: restart it", "error"),
        Event(
            "secret or CA file cannot be read; what needs it is unavailable",
            "error",
            ("place",),
            "Sidekey reads the file again when it changes.",
        ),
        Event("client certificate must not be used; what needs it is unavailable", "error", ("place",)),
        Event(
            "new secret or CA file cannot be used; the previous one stays in use",
            "error",
            ("integration", "place"),
            "Outside of integrations, `integration` is missing.",
        ),
        Event(
            "command failed; its last secret stays in use",
            "warning",
            ("integrations", "program", "reason"),
            "A command that writes a secret. One line for each new reason.",
        ),
        Event("preset cannot be used with its integration", "error", ("place",)),
        Event(
            "other users can change a file that Sidekey trusts", "error", ("place",), "Also for a folder on its path."
        ),
    ),
    "Tokens": (
        Event("a token was issued", "debug", ("integration", "lifetime"), "`lifetime` is in seconds."),
        Event("no token could be obtained", "warning", ("integration", "outcome", "reason"), "[tokens.md](tokens.md)"),
        Event(
            "tokens can be obtained again",
            "info",
            ("integration", "failures"),
            "`failures` counts the failed calls before.",
        ),
        Event("the upstream rejected the token; it is refreshed", "info", ("integration",)),
        Event("the upstream rejected the token, which is being refreshed", "info", ("integration",)),
        Event("the upstream invalidated the token; it is dropped", "info", ("integration",)),
        Event("the token is kept after a change of its integration", "debug", ("integration",)),
        Event(
            "a token request did not finish in time: its refresh token may have been used",
            "error",
            ("integration",),
            "[tokens.md](tokens.md)",
        ),
        Event("a token response cannot be stored yet", "warning", ("name", "reason")),
        Event("a token response was stored", "info", ("name",), "After `a token response cannot be stored yet`."),
        Event("a token response could not be stored: its refresh token may be lost", "error"),
    ),
    "Callers": (
        Event(
            "a caller does not trust the certificate of listen.tls: give it the CA",
            "warning",
            ("outcome", "reason", "peer"),
        ),
        Event(
            "a caller has no client certificate, which listen.tls.client_auth requires",
            "warning",
            ("outcome", "reason", "peer"),
            "Each of these lines comes at most once a minute. `reason` is null unless a certificate does not verify. "
            "See [callers.md](callers.md#when-it-does-not-work).",
        ),
        Event(
            "a caller's client certificate does not verify: see listen.tls.client_ca",
            "warning",
            ("outcome", "reason", "peer"),
        ),
        Event(
            "TLS with a caller failed: it must use https://, and TLS 1.2 or newer",
            "warning",
            ("outcome", "reason", "peer"),
        ),
        Event(
            "the keys of a JWT issuer cannot be fetched",
            "warning",
            ("issuer", "url", "reason"),
            "`url` has no query. Once until they are fetched again; see [callers.md](callers.md#keys).",
        ),
        Event("the keys of a JWT issuer are fetched again", "info", ("issuer",)),
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
            "the local CA was created",
            "info",
            ("fingerprint", "not_after", "trust_folder"),
            "[https-proxy.md](https-proxy.md), also for the next events.",
        ),
        Event(
            "another local CA was created for hosts that no CA covered: callers must restart to trust it",
            "warning",
            ("hosts", "fingerprint", "not_after", "trust_folder"),
        ),
        Event("the local CA that signs certificates has changed", "info", ("signing",)),
        Event("a local CA expires soon: replace it (sidekey ca rotate)", "warning", ("not_after", "days")),
        Event(
            "the CA of ca.certificate expires soon: renew it where it was issued",
            "warning",
            ("not_after", "days"),
            "Sidekey uses the renewed CA as soon as the files change.",
        ),
        Event("a local CA has expired", "error", ("not_after",)),
        Event(
            "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
            "warning",
            ("request_id", "integration", "host"),
        ),
        Event(
            "a caller's TLS handshake names another host than its CONNECT",
            "warning",
            ("request_id", "integration", "host"),
        ),
        Event(
            "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
            "warning",
            ("request_id", "integration", "host"),
        ),
    ),
    "Log-in": (
        Event(
            "company log-in is not available", "warning", ("reason",), "See [oidc.md](oidc.md#when-it-does-not-work)."
        ),
        Event("company log-in refused", "warning", ("reason",), "Nobody was logged in."),
    ),
    "Store": (
        Event("the store is in use", "info", ("revision",), "After a failure."),
        Event("no store was found: an empty one was created", "info", ("store",)),
        Event("the database user may not change the store: this process refuses edits", "info"),
        Event(
            "the store cannot be used: only what is in files is served",
            "warning",
            ("reason",),
            "Since the start; see [store.md](store.md#when-it-cannot-be-reached).",
        ),
        Event("the store cannot be used: what is loaded stays in use", "warning", ("reason",), "[store.md](store.md)"),
        Event(
            "results of sends could not be stored: they are shown as unknown",
            "warning",
            ("sends",),
            "Sidekey stopped while the store could not be written. The people who sent have seen the results.",
        ),
        Event(
            "usage and failures wait for the store",
            "warning",
            ("reason",),
            "They are written when it works again; at most 2,000 failures wait.",
        ),
        Event(
            "usage and failures stay in this process",
            "warning",
            ("reason",),
            "Its database user lacks a [privilege](store.md#users-of-the-database). Restart it after you have granted "
            "it.",
        ),
        Event(
            "a row of the store is older than before: the present one is used",
            "error",
            ("kind", "id", "seen", "found"),
            "The versions; 0: the row is gone. See [store.md](store.md#verify).",
        ),
        Event("a row of the store was altered and is not used", "error", ("kind", "id"), "[store.md](store.md)"),
        Event("the store was not reloaded because of a defect in Sidekey", "error"),
    ),
    "Defects": (
        Event(
            "defect",
            "error",
            ("request_id", "id", *_EXCEPTION),
            "`request_id` for a defect in a request, `id` for any other.",
        ),
        Event("uncaught exception", "critical", _EXCEPTION),
        Event("uncaught exception in a thread", "critical", ("thread", *_EXCEPTION)),
        Event("exception that could not be raised", "error", _EXCEPTION),
        Event("the event loop reported an error", "error", ("message", *_EXCEPTION)),
        Event("a library warned", "warning", ("category", "where")),
    ),
}
"""Every event of the log, by section of the page. A test compares them with the calls in the code."""

_INTRODUCTION = """\
<!-- Generated by make docs; edit tools/log_page.py instead. -->

# Logs

Sidekey logs to standard error, or to [`log.file`](config.md#log). Each line is a JSON object that begins with
`timestamp`, `level` and `event`. `event` is a fixed text, and further keys have the values. Later versions may add
keys and events. The kinds of lines are:

| lines | `event` | written |
|---|---|---|
| [access log](#requests) | `request` | for each request that `log.access` selects |
| [audit](#audit) | `credential used` | for each use of a credential, with `log.audit: uses` |
| [audit](#audit) | `config changed` | for each change of the config, always |
| [events](#events) | anything else | at `log.level` and above: `debug`, `info`, `warning`, `error`, `critical` |

`log.access` is `errors` (status 400 or more, and requests whose `code` is not null), `all` or `off`. `log.level` does
not affect the access log and the audit.

**No line contains a secret**, a token, a header, a body, or a message of a library. Paths and queries of requests may
be secret and are logged only with `log.path: true`. IDs that are not configured are never logged.

**The log never delays a request.** Lines wait in 4 MiB of memory. If that is full because the reader is too slow or
the disk is full, Sidekey drops further lines, logs their number (`log lines were dropped`) and counts them in
`sidekey_log_dropped_total`. A crash loses the lines of the last 50 ms. If your audit must have no gaps, keep room on
the disk, and act on the alert [SidekeyLogDropped](runbooks.md#sidekeylogdropped).

## On a terminal

`log.format: auto` writes text to a terminal and JSON elsewhere; `text` and `json` force one format. Text puts status,
method, integration, host, code and duration first, and omits keys without a value. Colours appear only on terminals,
and not with `NO_COLOR` or `TERM=dumb`. Sidekey escapes what callers and upstreams wrote, so a line cannot control the
terminal.

```text
2026-01-31 23:59:59.012Z warning request 504 POST crm api.example.com upstream_timeout 30001.2ms request_id=5f0c2ab1-1c
```

## Find the lines of a response

Every response has the header `Sidekey-Request-Id`; Sidekey's own responses also have it as `instance`. The access
log, the audit and `defect` lines have it as `request_id`. `trace_id` is that of the caller's `traceparent`.

```sh
curl -si http://127.0.0.1:8080/i/crm/x | grep -i '^sidekey-request-id'
```

## Searching

`sidekey.log` is a copy of the log. `journalctl -u sidekey -o cat` and `kubectl logs POD -c sidekey` print the same
lines. `jq -R 'fromjson? | ...'` skips lines that are not JSON.

All lines about the request with the ID `$ID`:

```sh
jq -c --arg id "$ID" 'select(.request_id == $id)' sidekey.log
```

Requests of a caller:

```sh
jq -c 'select(.event == "request" and .caller == "billing")' sidekey.log
```

Failed requests of an integration with their reasons, and the number of responses by code or status:

```sh
jq -r 'select(.event == "request" and .integration == "crm" and (.code or .status >= 400))
  | [.timestamp, .caller, .status, .code, .reason] | @tsv' sidekey.log
jq -r 'select(.event == "request") | .code // (.status | tostring)' sidekey.log | sort | uniq -c | sort -rn
```

Requests that took longer than a second, with the time in each phase:

```sh
jq -c 'select(.event == "request" and .duration > 1)
  | {request_id, integration, duration, grant, connect, first_byte}' sidekey.log
```

Uses of each credential by caller:

```sh
jq -r 'select(.event == "credential used") | [.integration, .caller // .by] | @tsv' sidekey.log | sort | uniq -c
```

Changes of the config, then only those of callers and of the targets that an integration may reach:

```sh
jq -c 'select(.event == "config changed")' sidekey.log
jq -c 'select(.event == "config changed" and any(.added_keys[]?, .changed_keys[]?, .removed_keys[]?;
  test("^callers|endpoint_prefix|allowed_domains|methods|allow_private")))' sidekey.log
```

Errors of Sidekey, its config and its credentials:

```sh
jq -c 'select(.event != "request" and (.level == "error" or .level == "critical"))' sidekey.log
```

## A file, and its rotation

Sidekey creates `log.file` with mode 0600 in an existing folder, because lines show which caller uses what; an
existing file keeps its mode. Give your log shipper access by a group or an ACL of the file. In a container, log to
standard error. If the file cannot be opened, Sidekey does not start, a reload is refused, and `sidekey check` reports
it. With `log.file`, standard error has only errors about the file itself.

SIGUSR1 makes Sidekey open the file again by its path, without losing a line. Sidekey may write to the renamed file
for another 50 ms, so compress it only at the next rotation. For logrotate and a systemd unit named `sidekey`:

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

In a systemd unit, `LogsDirectory=sidekey` with `LogsDirectoryMode=0700` creates `/var/log/sidekey`. If logrotate
refuses a folder that others may write to, name its owner with `su`. Without systemd, use `kill -USR1 PID`.
"""


def page() -> str:
    """Return the text of docs/logs.md."""
    parts = [
        _INTRODUCTION,
        "## Requests\n",
        _keys(REQUEST_FIELDS),
        "## Audit\n",
        "### credential used\n",
        "With `log.audit: uses`, Sidekey writes one line for each request that it sent with a credential or over a\n"
        "connection with the client certificate. The line comes at the end of the request, once even if it was sent\n"
        "again. Denied requests, and requests without a connection, have none. A line costs as much CPU as one of\n"
        "the access log, or half as much if `log.access` is `all`.\n",
        _keys(USE_FIELDS),
        "### config changed\n",
        "Sidekey writes one line for each reload that changed something, of files or of the store, but none at the\n"
        "start. The line has the names of keys, never values. Compare the config before and after to see who may use\n"
        "what. Of a preset, the line has only the ID. It omits keys without a value.\n",
        _keys(CHANGE_FIELDS),
        "## Events\n",
        "`place` is `file:line:column: path: message`, as in `sidekey check`, or only the path. `reason` is a\n"
        "sentence, and `not_after` a time. `error` has types of exceptions, and `at` places in Sidekey's code.\n",
    ]
    for title, events in EVENTS.items():
        parts += [f"### {title}\n", "| event | level | keys | meaning |\n|---|---|---|---|", *map(_row, events), ""]
    return "\n".join(parts)


def _keys(fields: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {meaning} |" for key, meaning in fields), ""])


def _row(event: Event) -> str:
    # Markdown needs two backticks around text with a backtick.
    marks = "``" if "`" in event.text else "`"
    keys = ", ".join(f"`{key}`" for key in event.keys)
    return f"| {marks}{event.text}{marks} | {event.level} | {keys} | {event.meaning} |"


def events() -> Iterator[Event]:
    """Yield every event."""
    for section in EVENTS.values():
        yield from section
