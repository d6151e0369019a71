"""`/export`: stored integrations as a config file."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from support.api import Api, ApiSetup, basic

Named = Callable[[str], str]


def test_export_is_a_config_file_without_secrets(editor: Api, running: ApiSetup, named: Named) -> None:
    """A comment at the top lists the files that the operator must fill in."""
    names = [named("first"), named("second")]
    for name in names:
        editor.create("/integrations", {"id": name, "title": "Ours", **basic(running.upstream)})
    response = editor.request("GET", f"/export?id={','.join(names)}")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/yaml")
    assert b"a-canary-of-basic" not in response.body
    document = yaml.safe_load(response.body)
    assert document.keys() == {"version", "integrations"}
    assert list(document["integrations"]) == names
    exported = document["integrations"][names[0]]
    assert exported["title"] == "Ours"
    assert f"# {' ' * 2}{exported['auth']['password']['file']}" in response.body.decode().splitlines()


def test_export_refuses_integrations_that_are_not_in_the_store(editor: Api) -> None:
    """The response names each of them."""
    problem = editor.request("GET", "/export?id=nowhere,of-a-file")
    assert (problem.status, problem.code, problem.pointers) == (422, "invalid", {"/id/0", "/id/1"})
    for query in ("", "?id=", "?id=a,,b", "?id=A", f"?id={','.join(f'x{number}' for number in range(51))}"):
        assert editor.request("GET", f"/export{query}").code == "malformed", query


def test_viewer_may_not_export(viewer: Api) -> None:
    assert viewer.request("GET", "/export?id=of-a-file").code == "forbidden"
