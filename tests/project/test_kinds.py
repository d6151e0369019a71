"""What is special to a kind stands in its own file: code that reads configs asks the registry and names no kind."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.injected import InjectedSettings
from sidekey.credentials.registry import KINDS
from sidekey.credentials.signatures.settings import SignatureBesideSettings
from sidekey.settings.models import GlobalSettings, IntegrationSettings, PresetSettings

PACKAGE = Path(__file__).parents[2] / "proxy" / "sidekey"
OWN = {kind.__module__.split(".")[2] for kind in KINDS.values()}
"""The modules and folders of `credentials` that are a kind's own."""

GENERIC = sorted(
    path
    for folder in ("settings", "credentials")
    for path in (PACKAGE / folder).rglob("*.py")
    if path.relative_to(PACKAGE / folder).parts[0].removesuffix(".py") not in {*OWN, "registry"}
)
NAMES = KINDS.keys() - IntegrationSettings.model_fields.keys()
NAME = re.compile(rf"(?:^|`|\b(?:type|kind):? `?)(?:{'|'.join(sorted(NAMES))})(?:$|[`\s.,;:)])")

# `provider` is no kind's own: kinds that take profiles have it. `grant` is what every kind ends in. Of certificates and
# signatures there are blocks beside `auth` as well. Others are keys of values, placements, stores and callers too.
SHARED = {"type", "provider", "grant", "key", "rejected", "scheme", "secret", "token"}
SHARED |= SignatureBesideSettings.model_fields.keys()
SHARED |= CertificateSettings.model_fields.keys() | InjectedSettings.model_fields.keys()
KEYS = {key for kind in KINDS.values() for key in kind.model_fields}
KEYS -= SHARED | IntegrationSettings.model_fields.keys() | GlobalSettings.model_fields.keys()


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that know a kind: by its module, by its name in a text, or by a key that only kinds have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[:2] == ["sidekey", "credentials"] and OWN & {*parts[2:3], *(each.name for each in node.names)}:
                yield node.lineno, node.module
        elif isinstance(node, ast.Constant):
            text = node.value if isinstance(node.value, str) else ""
            # A kind may have the name of a key that is not its own.
            if text not in SHARED and (NAME.search(text) or text in KEYS):
                yield node.lineno, text


@pytest.mark.parametrize("path", GENERIC, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_generic_code_knows_no_kind(path: Path) -> None:
    """A new kind is one file, one line of the registry and one test file."""
    own = PresetSettings.model_fields.keys() if path.name == "presets.py" else ()
    assert [found for found in named(ast.parse(path.read_text("utf-8"))) if found[1] not in own] == []


@pytest.mark.parametrize(
    "line",
    [
        "from sidekey.credentials.mtls import MtlsSettings",
        "from sidekey.credentials.oauth2.request import TokenRequest",
        "from sidekey.credentials import responsys",
        "auth.get('type') == 'oauth2'",
        "KINDS['responsys']",
        "f'the kind mtls brings {its} own'",
        "text = '`basic`, `headers` and `mtls` need one'",
        "auth.get('token_placement')",
    ],
)
def test_a_line_that_knows_a_kind_is_found(line: str) -> None:
    """However it does."""
    assert list(named(ast.parse(line)))
