"""Links, files, config keys, responses and commands in the documents exist. `test_blocks.py` runs the examples."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

import sidekey
from benchmarks import page
from sidekey.cli import COMMANDS, main
from sidekey.credentials.registry import KINDS as CREDENTIAL_KINDS
from sidekey.errors import RESPONSE_KINDS
from tools.docs import pages

ROOT = Path(__file__).parents[2]
PACKAGE = Path(sidekey.__file__).parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
INDEX = ROOT / "docs" / "README.md"
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
REPORT = ROOT / "benchmarks" / "README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), REPORT]
LINKING = [*DOCUMENTS, ROOT / "helm" / "sidekey" / "README.md", ROOT / "prometheus" / "README.md"]
"""Documents whose links are checked: also READMEs whose YAML is not a Sidekey config."""
GENERATED = pages().keys()
WRITTEN = [path for path in DOCUMENTS if str(path.relative_to(ROOT)) not in GENERATED]
"""Documents that people write. tests/tools/test_docs.py compares the generated ones."""

PROMISED = {
    "Top level": "version listen allow_unauthenticated callers network timeouts limits log via forward integrations",
    "listen": "proxy admin metrics names mode",
    "callers.NAME": "token integrations",
    "network": "hosts allow_private trusted_ca search source_address",
    "timeouts": "connect request_head response idle keep_alive write total drain_delay drain",
    "limits": "request_head target headers request_body response_head replay_body in_flight pipelined",
    "log": "level access path audit format file",
    "forward": "unmatched",
    "integrations.ID": "description tags endpoint_prefix allow_other_domains allowed_domains methods allow_private "
    "trusted_ca source_address limits auth client_certificate redact_response test",
    "integrations.ID.limits": "in_flight",
    "integrations.ID.client_certificate": "certificate private_key pem key_passphrase allow_private_ca refresh",
    "integrations.ID.test": "method path",
    "auth, type basic": "type username password",
    "auth, type headers": "type headers",
    "auth, type jwt": "type algorithm private_key secret secret_encoding key_id lifetime claims jti token_placement "
    "renewal_interval",
    "auth.token_placement, type jwt": "in name scheme prefix",
    "auth, type mtls": "type certificate private_key pem key_passphrase allow_private_ca refresh",
    "auth, type oauth2": "type provider token_endpoint client_id client_secret client_authentication grant "
    "token_placement token_request token_response",
    "auth.token_request, type oauth2": "method format body query",
    "auth.token_placement, type oauth2": "in name scheme prefix",
    "auth.token_response, type oauth2": "access_token expires_in base_url",
    "auth.grant, type refresh_token": "refresh_token rotates",
    "auth.grant, type password": "username password",
    "auth.grant, type jwt_bearer": "private_key key_id algorithm certificate audience issuer subject claims",
    "auth.grant, type custom": "grant_type",
    "auth.client_authentication, type header": "form_encoded",
    "auth.client_authentication, type private_key_jwt": "private_key key_id algorithm certificate audience claims",
    "auth.client_authentication, type client_secret_jwt": "key_id algorithm audience claims",
    "auth, type signature": "type scheme algorithm secret secret_encoding signed encoding each join headers key key_id "
    "components expires nonce tag label",
    "integrations.ID.signature": "scheme algorithm secret secret_encoding signed encoding each join headers key key_id "
    "components expires nonce tag label",
    "auth, type responsys": "type login_endpoint username password path_prefix",
}
"""The keys of version 1. Users' files have them, so removing one needs a new version."""


CODE = (ROOT, PACKAGE, PACKAGE / "proxy", ROOT / "tests")
"""The folders to which paths of modules in the documents are relative."""


def command(name: str) -> click.Command:
    """Return the command of this name."""
    result = main.get_command(click.Context(main), name)
    assert result is not None
    return result


def ids(path: Path) -> str:
    """Return a document's name as a test ID."""
    return str(path.relative_to(ROOT))


def documented_keys() -> dict[str, set[str]]:
    """Return the keys of docs/config.md by section."""
    keys: dict[str, set[str]] = {}
    for section in (ROOT / "docs" / "config.md").read_text("utf-8").split("\n## ")[1:]:
        keys[section.partition("\n")[0]] = set(re.findall(r"^\| `(\w+)` \|", section, re.M))
    return keys


def fenced(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def anchors(document: Path) -> set[str]:
    """Return the fragments of a document's headings: lower case, without punctuation, with hyphens for blanks."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def defines(path: Path, name: str) -> bool:
    """Return True if a module has a class, function or constant of this name."""
    pattern = rf"^ *(?:async def|def|class) {name}\b|^{name}\b"
    return re.search(pattern, path.read_text("utf-8"), re.M) is not None


def quick_start() -> str:
    """Return the section of the README."""
    return README.partition("## Quick start\n")[2].partition("\n## ")[0]


def linked_files(document: Path) -> list[Path]:
    """Return the files of the project that a document links to or shows."""
    text = document.read_text("utf-8")
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"\bsrc(?:set)?=\"([^\"\s]+)\"", text)]
    names = [target.partition("#")[0] for target in targets if not urlsplit(target).scheme]
    return [document.parent / name for name in names if name]


@pytest.mark.parametrize("document", LINKING, ids=ids)
def test_every_relative_link_resolves(document: Path) -> None:
    assert [path for path in linked_files(document) if not path.exists()] == []


def test_every_linked_file_is_in_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    # Every source distribution has its pyproject.toml.
    included = [ROOT / "pyproject.toml", *(path for pattern in patterns for path in ROOT.glob(pattern.lstrip("/")))]
    linked = {path.resolve() for document in LINKING for path in linked_files(document)}
    assert {path for path in linked if not any(path.is_relative_to(folder) for folder in included)} == set()


@pytest.mark.parametrize("document", LINKING, ids=ids)
def test_every_fragment_of_a_link_is_a_heading(document: Path) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        name, _, fragment = target.partition("#")
        linked = document.parent / name if name else document
        if fragment and not urlsplit(target).scheme and linked.suffix == ".md" and fragment not in anchors(linked):
            missing.append(target)
    assert missing == []


def test_index_lists_every_document_once_with_a_description() -> None:
    rows = re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \| (\S.*) \|$", INDEX.read_text("utf-8"), re.M)
    listed = [(INDEX.parent / target).resolve() for target, _ in rows]
    documents = {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "docs" / "decisions" / "README.md", REPORT}
    assert len(listed) == len(set(listed))
    assert {path.resolve() for path in documents - {INDEX}} - set(listed) == set()


def test_every_kind_is_in_the_integrations_page() -> None:
    text = (ROOT / "docs" / "integrations.md").read_text("utf-8").partition("## Kinds\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \| \S", text, re.M)) == set(CREDENTIAL_KINDS)


def test_every_claim_about_another_tool_links_to_its_documentation() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    rows = re.findall(r"^\| \*\*.*\|$", text, re.M)
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")[2:]]
    assert [cell for cell in cells if cell != "-" and not re.search(r"\]\[[a-z0-9-]+\]", cell)] == []
    named = set(re.findall(r"\]\[([a-z0-9-]+)\]", text))
    assert named == set(re.findall(r"^\[([a-z0-9-]+)\]: https://", text, re.M))
    assert len(rows) >= 16


def test_every_row_of_the_capacity_table_was_measured() -> None:
    """The table repeats no figure, but names the row of the last benchmark."""
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = operations.partition("\n## Capacity\n")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\|[^|]*\|([^|]*)\|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert named
    assert named <= set(re.findall(r"^### `(\w+)`:", REPORT.read_text("utf-8"), re.M))


def test_published_figures_are_those_of_the_last_benchmark() -> None:
    """`make bench-page` writes them from the results."""
    rendered = page.pages(json.loads((ROOT / page.RESULTS).read_text("utf-8")))
    assert [str(path) for path, text in rendered.items() if (ROOT / path).read_text("utf-8") != text] == []


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:^|`|\$ )make (?:[A-Z]+=\S+ )*([a-z-]+)", document.read_text("utf-8"), re.M)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_readme_links_to_the_index() -> None:
    assert "](docs/README.md)" in README


@pytest.mark.parametrize("document", WRITTEN, ids=ids)
def test_every_module_in_the_documents_exists(document: Path) -> None:
    """`policy/paths.py` is a file, and `pool.py: Key` a definition in it."""
    missing = []
    for name, definition in re.findall(r"`([a-z0-9_./]+\.py)(?:: (\w+))?`", document.read_text("utf-8")):
        path = next((folder / name for folder in CODE if (folder / name).is_file()), None)
        if path is None or (definition and not defines(path, definition)):
            missing.append((name, definition))
    assert missing == []


@pytest.mark.parametrize("document", WRITTEN, ids=ids)
def test_every_config_key_in_the_documents_exists(document: Path) -> None:
    keys = documented_keys()
    named = re.findall(r"`(listen|network|timeouts|limits|log)\.(\w+)`", document.read_text("utf-8"))
    assert [f"{section}.{key}" for section, key in named if key not in keys[section]] == []


@pytest.mark.parametrize("document", WRITTEN, ids=ids)
def test_every_status_and_code_in_the_documents_fit(document: Path) -> None:
    """An example is 501 `not_implemented`."""
    named = re.findall(r"\b([45]\d\d)\s+`([a-z_]+)`", document.read_text("utf-8"))
    assert [
        code for status, code in named if code not in RESPONSE_KINDS or int(status) not in RESPONSE_KINDS[code].statuses
    ] == []


@pytest.mark.parametrize("section", PROMISED)
def test_every_config_key_is_in_the_reference(section: str) -> None:
    assert set(PROMISED[section].split()) - documented_keys()[section] == set()


@pytest.mark.parametrize("document", WRITTEN, ids=ids)
def test_every_command_in_the_documents_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    code = [*re.findall(r"`([^`\n]+)`", text), *fenced(text, "sh")]
    named = {word for piece in code for word in re.findall(r"(?:^|[(\s])sidekey ([a-z]+)", piece)}
    assert named - COMMANDS.keys() == set()


def test_table_of_commands_has_every_command_and_only_known_options() -> None:
    rows = re.findall(r"^\| `sidekey (\w+)[^`]*` \| (.*) \|$", COMMANDS_PAGE, re.M)
    assert {name for name, _ in rows} == set(COMMANDS)
    for name, text in rows:
        options = {flag for option in command(name).params for flag in option.opts}
        assert set(re.findall(r"`(--\w+)`", text)) <= options


def test_quick_start_explains_https_urls() -> None:
    """With HTTPS_PROXY the service must trust the local CA. There are two ways without it."""
    for words in (
        "must trust that CA",
        "CONNECT",
        "docs/https-proxy.md",
        "reverse proxy",
        "write the URL as `http://`",
    ):
        assert words in " ".join(quick_start().split())


def test_every_decision_is_in_the_index_and_has_all_sections() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    for path in RECORDS:
        text = path.read_text("utf-8")
        number, title = path.name[:4], text.partition("\n")[0].partition(": ")[2]
        assert f"| [{number}]({path.name}) | {title} |" in index
        assert re.findall(r"^## (.*)$", text, re.M) == ["Context", "Decision", "Consequences", "Alternatives"]


def test_glossary_is_short_and_sorted() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.M)[1:]
    assert terms == sorted(terms)
    assert len(terms) <= 40


def test_architecture_names_every_folder_and_module() -> None:
    """The page of the data plane may name its modules instead."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8") + (ROOT / "docs" / "data-plane.md").read_text("utf-8")
    parts = [*PACKAGE.iterdir(), *(PACKAGE / "proxy").iterdir()]
    names = {path.name if path.suffix else f"{path.name}/" for path in parts if path.suffix in {"", ".py"}} - {
        "__init__.py",
        "__main__.py",
        "__pycache__/",
    }
    assert {name for name in names if f"{name}`" not in text} == set()


def test_no_document_installs_an_unregistered_package() -> None:
    """Sidekey is on no package index. Anyone who registers its name could run code on users' machines."""
    folders = (PACKAGE, ROOT / "config", ROOT / "docs", ROOT / "examples", ROOT / "helm")
    files = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".md", ".py", ".yaml", ".json")
    ]
    instruction = re.compile(r"sidekey\[(?:jwt|postgres)|\bpipx? install ['\"]?sidekey\b(?!-)")
    assert [path for path in (*files, *ROOT.glob("*.md")) if instruction.search(path.read_text("utf-8"))] == []
