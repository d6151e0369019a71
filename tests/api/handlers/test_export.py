"""api/handlers/export.py: stored integrations as a config file."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from support.api import Api, Running, basic

Named = Callable[[str], str]


def test_an_export_is_a_config_file_without_secrets(editor: Api, running: Running, named: Named) -> None:
    """Of several integrations, with the files to fill in at the top."""
    names = [named("one"), named("two")]
    for name in names:
        editor.make("/integrations", {"id": name, "title": "Ours", **basic(running.upstream)})
    response = editor.ask("GET", f"/export?id={','.join(names)}")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/yaml")
    assert b"a-canary-of-basic" not in response.body
    document = yaml.safe_load(response.body)
    assert document.keys() == {"version", "integrations"}
    assert list(document["integrations"]) == names
    exported = document["integrations"][names[0]]
    assert exported["title"] == "Ours"
    assert f"# {' ' * 2}{exported['auth']['password']['file']}" in response.body.decode().splitlines()


def test_an_export_names_what_it_cannot_contain(editor: Api) -> None:
    """Integrations of files are not the store's."""
    problem = editor.ask("GET", "/export?id=nowhere,of-a-file")
    assert (problem.status, problem.code, problem.pointers) == (422, "invalid", {"/id/0", "/id/1"})
    for query in ("", "?id=", "?id=a,,b", "?id=A", f"?id={','.join(f'x{number}' for number in range(51))}"):
        assert editor.ask("GET", f"/export{query}").code == "malformed", query


def test_viewers_may_not_export(viewer: Api) -> None:
    assert viewer.ask("GET", "/export?id=of-a-file").code == "forbidden"
