"""yaml.js: Sidekey reads the document that the console wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.api.yaml_bodies import read_yaml
from support.every_kind import documents_of_every_kind
from support.ui_modules import run_module

WRITE: Final = 'const { toYaml } = await import("./yaml.js"); return input.map(toYaml);'


def read_back(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write documents as YAML in node, and parse them like the API."""
    return [read_yaml(text.encode()).value for text in run_module(WRITE, documents)]


HOSTILE: Final = [
    *("", " ", "true", "No", "~", "null", "y", "0x10", "1", "1.0", "-1", "01", "1e5", "2026-01-01", ".inf", "=", "<<"),
    *("a: b", "a:", ":a", "a #b", "#a", "- a", "? a", "&a", "*a", "!a", "%a", "@a", "`a", "{a", "[a", "a, b", "'a"),
    *(
        "Bearer ",
        " a",
        "a\n",
        "a\nb",
        "a\nb\n",
        "a\nb\n\n",
        "\na",
        "a\n b",
        "a\n\nb\n",
        "a \nb\n",
        "a\r\nb\n",
        "\ta\nb",
    ),
    *("\\", '"', "\\n", "\x00\x07\x1b", "\x7f\x85\x9f\xa0", "\u2028\u2029", "\ufeff\ufffe\uffff"),
    *("Zoë", "\U0001f469\u200d\U0001f680 \u2764\ufe0f", "\u202eabc", "x" * 4096, "__proto__", "constructor"),
    *("---", "...", "--- a\nb", "https://a.example:8080/b?c=d&e", "https://a.example/b", "{{name}}", "|", ">-"),
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
]


def test_hostile_texts_survive(tmp_path: Path) -> None:
    """The texts are values, keys, and items of nested lists."""
    document: dict[str, Any] = {
        "values": {f"key-{index}": text for index, text in enumerate(HOSTILE)},
        "list": HOSTILE,
        "lists": [[["deep"], []], [], {}, [{"a": 1, "b": [{"c": "d\ne\n"}]}], {"x": {"y": {}}}],
        "keys": {text[:990]: {"value": text} for text in HOSTILE},
        "plain": [True, False, None, 0, -1, 999_999_999_999_999, 0.5, -1.25, 1e-7, 1.5e300, 123456.789e3],
    }
    assert read_back([document]) == [document]


def test_documents_of_every_kind_survive(tmp_path: Path) -> None:
    documents = [*documents_of_every_kind(1, tmp_path).values()]
    assert read_back(documents) == documents


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: Final = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)


def test_any_document_survives() -> None:
    documents: list[dict[str, Any]] = []

    @settings(max_examples=100, database=None, deadline=None)
    @given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
    def gather(document: dict[str, Any]) -> None:
        documents.append(document)

    gather()
    assert read_back(documents) == documents
