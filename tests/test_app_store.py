"""A running Sidekey with a store: what it says where the store cannot be opened, and goes on with where it ends."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sidekey.store.state import Put
from support import peers
from support.api import Api, basic, config
from support.ask import get, within
from support.child import Child, run_cli, run_process
from support.postgres import Postgres
from support.scraping import samples
from support.stores import ENTRY, KEYS, PostgresPlace, integration

HEAD = 'version: 1\nlisten: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}\n'
KEY = "keys: [{id: k1, key: {env: STORE_KEY}}]"
ENVIRONMENT = {"STORE_KEY": b64encode(KEYS["k1"]).decode()}


def series(child: Child) -> dict[str, float]:
    """The samples of the store."""
    found = samples(get(child.admin_port, "/metrics").body)
    return {
        name.removeprefix("sidekey_store_"): value
        for (name, labels), value in found.items()
        if name.startswith("sidekey_store_") and not labels
    }


def test_a_store_is_made_at_the_first_start(tmp_path: Path) -> None:
    """And found by the next. The log says so: somebody may have expected another."""
    for made in (True, False):
        with Child(f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
            found = series(child)
            assert (found["up"], found["revision"], found["rolled_back"]) == (1, 0, 0)
            assert child.stop() == 0
        assert any('"there was no store: an empty one was made"' in line for line in child.lines) is made


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b64encode(b"x" * 32).decode(), "store.keys: key k1 is not the key that the store is written with"),
        (b64encode(b"x" * 31).decode(), "key k1: environment variable STORE_KEY must be 32 bytes in base64"),
        ("", "key k1: environment variable STORE_KEY must not be empty"),
    ],
    ids=["another", "short", "none"],
)
def test_without_its_key_it_does_not_start(tmp_path: Path, key: str, reason: str) -> None:
    with Child(f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        assert child.stop() == 0
    done = run_process("run", "--config", str(child.config), environment={"STORE_KEY": key})
    assert done.returncode == 1
    assert reason in done.stderr


def test_what_is_loaded_goes_on_while_the_store_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """Readiness stays, the metric and the log say so, and what was there is used again when it is back."""
    place = PostgresPlace(postgres, asyncio.run(postgres.schema()))
    (tmp_path / "url").write_text(postgres.url(place.schema))
    config = f"store: {{url: {{file: url}}, {KEY}}}\n"
    with Child(config, tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        assert series(child)["up"] == 1
        postgres.stop()
        try:
            child.wait_for_line(lambda line: "the store cannot be used: what is loaded stays in use" in line)
            assert series(child)["up"] == 0
            assert get(child.admin_port, "/readyz").status == 200
        finally:
            postgres.start()
        child.wait_for_line(lambda line: '"the store is in use"' in line)
        within(lambda: series(child)["up"] == 1)
        assert child.stop() == 0
    assert str(postgres.folder) not in "\n".join(child.lines)


def test_three_processes_see_each_change_of_the_others(postgres: Postgres, tmp_path: Path) -> None:
    """Also those whose connections were just killed."""
    place = PostgresPlace(postgres, asyncio.run(postgres.schema()))
    with ExitStack() as stack:
        children = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "url").write_text(postgres.url(place.schema))
            config = f"store: {{url: {{file: url}}, {KEY}}}\n"
            children.append(stack.enter_context(Child(config, folder, head=HEAD, environment=ENVIRONMENT)))

        async def write(name: str) -> int:
            async with place.open() as store:
                return (await store.commit([Put(integration(name), None)], ENTRY)).revision

        for revision in range(1, 4):
            assert asyncio.run(write(f"i{revision}")) == revision
            within(lambda wanted=revision: {series(child)["revision"] for child in children} == {wanted})
            asyncio.run(postgres.kill_connections())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_change_a_deletion_and_a_new_row_are_in_use_elsewhere_within_two_seconds(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """By two processes of one database, without a restart."""
    where = "path: ../store.db"
    if kind == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "url").write_text(postgres.url(asyncio.run(postgres.schema())))
        where = "url: {file: ../url}"
    with ExitStack() as stack:
        one, two = (
            Api(stack.enter_context(Child(config(folder, where), folder)).admin_port)
            for folder in (tmp_path / "one", tmp_path / "two")
            if folder.mkdir() is None
        )

        def seen(version: int | None) -> None:
            began = time.monotonic()
            within(lambda: two.ask("GET", "/integrations/crm").json.get("version") == version)
            assert time.monotonic() - began < 2

        one.make("/integrations", {"id": "crm", **basic(1)})
        seen(1)
        assert one.ask("PATCH", "/integrations/crm", {"description": "x"}, match='"1"').status == 200
        seen(2)
        assert one.ask("DELETE", "/integrations/crm", match='"2"').status == 204
        seen(None)
        one.make("/integrations", {"id": "crm", **basic(1)})
        seen(4)


def large(text: str) -> dict[str, Any]:
    """A document of 20 KB."""
    return {"auth": {"type": "headers", "headers": {f"X-{number}": text * 2000 for number in range(10)}}}


def test_a_full_disk_refuses_changes_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    """503 for each; what is loaded is read, and after a restart with room all that was acknowledged is there."""
    prlimit = peers.require("prlimit")
    acknowledged = []
    with Child(config(tmp_path), tmp_path, wrapper=(prlimit, "--fsize=400000")) as child:
        api = Api(child.admin_port)
        while True:
            name = f"i{len(acknowledged)}"
            said = api.ask("POST", "/integrations", {"id": name, "endpoint_prefix": "http://127.0.0.1:1", **large("x")})
            if said.status != 201:
                break
            acknowledged.append(name)
        for method, body in (("PATCH", large("y")), ("DELETE", None)):
            again = api.ask(method, "/integrations/i0", body, match='"1"')
            assert (again.status, again.code) == (said.status, said.code) == (503, "store_unavailable")
            assert "store.db cannot be " in again.json["detail"]
        assert sorted(each["id"] for each in api.get("/integrations")["items"]) == sorted(acknowledged)
        assert child.stop() == 0
    assert len(acknowledged) > 2
    with Child(config(tmp_path), tmp_path) as child:
        api = Api(child.admin_port)
        found = {each["id"]: each["version"] for each in api.get("/integrations")["items"]}
        assert found == dict.fromkeys(acknowledged, 1)
        entries = api.get("/audit")["items"]
        assert [each["action"] for each in entries] == ["create"] * len(acknowledged)
        api.make("/integrations", {"id": name, **basic(1)})
        assert run_cli("store", "verify", "--config", str(child.config)).returncode == 0
        assert child.stop() == 0
