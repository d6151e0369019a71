"""The cost of the most dangerous documents is linear: twice the size costs at most 2.5 times as much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from support.api import OF_A_FILE, Api, managed
from support.sidekey_process import SidekeyProcess

MOST: Final = 2.5
"""Maximum cost of a document relative to one of half its size."""

NOISE: Final = 0.03
"""Seconds of CPU time below which a document holds up nobody, and fixed costs count."""


def signature(size: int) -> dict[str, Any]:
    """Build an integration whose signed text is one long word, in which Sidekey searches for a key."""
    auth = {
        "type": "signature",
        "scheme": "custom",
        "secret": {"value": "canary-of-the-tests-of-at-least-32-bytes"},
        "signed": f"{'a' * size}{{timestamp}}.{{body}}",
        "headers": {"X-Signature": "t={timestamp},{signature}"},
    }
    return {"endpoint_prefix": "https://api.example.com/v1", "auth": auth}


def xml_preset(size: int) -> dict[str, Any]:
    """Build a preset with a long XML body of many placeholders."""
    preset = {
        "integration": "of-a-file",
        "url": "http://127.0.0.1:1/v1/{{a}}",
        "parameters": {"a": {"type": "text"}},
        "body": {"text": f"<a>p{'q' * size}{'{{a}}' * size}</a>", "content_type": "application/xml"},
    }
    return {**preset, "sample": {"parameters": {"a": "x"}}}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    """One process for both documents."""
    with managed(tmp_path_factory.mktemp("cost"), more=OF_A_FILE) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "build", "size"),
    [
        ("/drafts/integration/preview", signature, 200_000),
        ("/drafts/preset/preview", xml_preset, 40_000),
    ],
    ids=["signed text", "XML preset"],
)
def test_twice_the_document_costs_at_most_two_and_a_half_times(
    path: str, build: Callable[[int], dict[str, Any]], size: int, child: SidekeyProcess
) -> None:
    """In CPU time of the process. The smallest of several measurements counts."""
    api = Api(child.admin_port)

    def cost(count: int) -> float:
        before = child.cpu_time()
        assert api.request("POST", path, build(count)).status == 200
        return child.cpu_time() - before

    # A small document first: what grows with the square would take minutes at full size.
    for count in (size // 16, size):
        whole, half = cost(count), cost(count // 2)
        for _ in range(4):
            if whole <= max(NOISE, MOST * half):
                break
            whole, half = min(whole, cost(count)), min(half, cost(count // 2))
        assert whole <= max(NOISE, MOST * half), f"{count // 2} cost {half * 1e3:.0f} ms, {count} {whole * 1e3:.0f} ms"
