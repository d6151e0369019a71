"""`sidekey errors`: list Sidekey's own responses, with their causes and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import click
from click.shell_completion import CompletionItem

from sidekey.cli.options import json_option
from sidekey.cli.terminal import fail, print_result, table, terminal_width
from sidekey.errors import RESPONSE_KINDS, ResponseKind, causes_of


def _describe(kind: ResponseKind) -> dict[str, Any]:
    """Build the JSON of a code."""
    return {
        "code": kind.code,
        "statuses": list(kind.statuses),
        "title": kind.title,
        "actors": list(kind.actors),
        "retry": kind.retry,
        "remedy": kind.remedy,
        "causes": [
            {"meaning": cause.meaning, "remedy": cause.remedy, "reason": denial}
            for cause, denial in causes_of(kind.code).items()
        ],
    }


def _statuses(kind: ResponseKind) -> str:
    return ", ".join(map(str, kind.statuses))


def _list(width: int | None) -> list[str]:
    rows = [(kind.code, _statuses(kind), ", ".join(kind.actors), kind.title) for kind in RESPONSE_KINDS.values()]
    return table([("CODE", "STATUS", "WHO ACTS", "TITLE"), *rows], width)


def _lines(kind: ResponseKind, width: int | None) -> Iterator[str]:
    rows = [
        ("code", kind.code),
        ("status", _statuses(kind)),
        ("title", kind.title),
        ("who acts", ", ".join(kind.actors)),
        ("retry", kind.retry),
        ("what to do", kind.remedy),
    ]
    yield from table(rows, width)
    for cause, denial in causes_of(kind.code).items():
        yield ""
        rows = [("cause", cause.meaning), ("what to do", cause.remedy)]
        yield from table(rows if denial is None else [*rows, ("reason", denial)], width)


def _complete_code(context: click.Context, parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    del context, parameter
    return [CompletionItem(code, help=kind.title) for code, kind in RESPONSE_KINDS.items() if code.startswith(prefix)]


@click.command()
@json_option
@click.argument("code", metavar="[CODE]", required=False, shell_complete=_complete_code)
def command(as_json: bool, code: str | None) -> None:
    """Explain the codes of Sidekey's own responses.

    Without CODE, the command lists the codes with status, title and who acts. With CODE, it also shows whether to
    retry, and each usual cause with what to do. `reason` is the label of the metric sidekey_denials_total.
    """
    width = terminal_width()
    if code is None:
        print_result([_describe(kind) for kind in RESPONSE_KINDS.values()], _list(width), as_json=as_json)
        return
    kind = RESPONSE_KINDS.get(code)
    if kind is None:
        close = get_close_matches(code, RESPONSE_KINDS, n=1)
        fail(f"no such code: did you mean {close[0]}?" if close else "no such code: `sidekey errors` lists all codes")
    print_result(_describe(kind), _lines(kind, width), as_json=as_json)
