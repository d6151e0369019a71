"""Sidekey opens no secret and sends nothing if somebody edited documents, rows or sealed values of its store."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sidekey.store.canonical_json import canonical
from sidekey.store.records import IntegrationRow, SealedField
from sidekey.store.state import Put, State
from support.api import Api, managed
from support.http_get import get, post, wait_until
from support.key_edits import EDITS
from support.scraping import samples
from support.sidekey_process import SidekeyProcess, run_cli
from support.stored import BASIC, CANARY, OAUTH2, SESSION, copied, patched
from support.stores import ENTRY, KEYS, SqliteBackend, StoreBackend

ONE_KEY_OF_EACH_KIND: Final = {key.split(".")[0]: key for key in EDITS}.values()
"""One key of each kind and section."""

NAMES: Final = {key: f"e{number}" for number, key in enumerate(EDITS)}


def sidekey(store_settings: str, folder: Path) -> SidekeyProcess:
    """Run a process with this store, and a caller of its file that may use everything."""
    (folder / "caller").write_text("secret-of-billing")
    callers = 'callers: {billing: {token: {file: caller}, integrations: "*"}}\nintegrations: {}'
    return managed(folder, store_settings, callers)


def send(child: SidekeyProcess, name: str, token: str = "secret-of-billing") -> tuple[int, str]:
    """Send a request, and return the status and the code."""
    headers = {"Sidekey-Token": token, "Content-Type": "application/json"}
    response = post(child.proxy_port, f"/i/{name}/v1/x", headers, b"{}")
    return response.status, json.loads(response.body)["code"]


def write_with_macs(place: StoreBackend, edit: Callable[[State], dict[str, IntegrationRow]]) -> None:
    """Change rows as a defect in Sidekey would: with valid MACs, and without validation of the documents."""

    async def commit() -> None:
        async with place.open(KEYS, create=False) as store:
            rows = edit(store.state)
            await store.commit([Put(row, store.state.integrations[name].version) for name, row in rows.items()], ENTRY)

    asyncio.run(commit())


def with_patch(row: IntegrationRow, patch: Any) -> IntegrationRow:
    """Copy a row with another document and unchanged secrets."""
    return replace(row, document=patched(row.document, patch))


def flip_last_bit(field: SealedField) -> SealedField:
    """Flip the last bit of a sealed value."""
    return replace(field, sealed=field.sealed[:-2] + ("A" if field.sealed[-2] != "A" else "B") + field.sealed[-1])


def test_secret_of_an_edited_document_does_not_open(place: StoreBackend, store_settings: str, tmp_path: Path) -> None:
    """The test edits each key that decides about the destination, with a valid MAC and by SQL."""
    keys = EDITS if isinstance(place, SqliteBackend) else ONE_KEY_OF_EACH_KIND
    names = {key: NAMES[key] for key in keys}
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        for key, name in names.items():
            api.create("/integrations", {"id": name, **EDITS[key][0]})
        assert child.stop() == 0
    original = asyncio.run(place.backup())
    write_with_macs(
        place,
        lambda state: {name: with_patch(state.integrations[name], EDITS[key][1]) for key, name in names.items()},
    )
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        for key, name in names.items():
            document = api.get(f"/integrations/{name}")
            assert (document["status"], "changed its row" in document["problem"]) == ("unusable", False), key
            # Sidekey checks the target first, with the edited policy.
            assert send(child, name) in ((502, "credential_unavailable"), (403, "target_denied")), key
        assert child.stop() == 0
    asyncio.run(place.restore(original))
    for key, name in names.items():
        asyncio.run(edit_body(place, name, EDITS[key][1]))
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        for key, name in names.items():
            assert "something other than Sidekey changed its row" in api.get(f"/integrations/{name}")["problem"], key
            assert send(child, name) == (502, "credential_unavailable"), key
        assert child.stop() == 0


async def edit_body(place: StoreBackend, name: str, patch: Any) -> None:
    """Edit a document by SQL, as an administrator of the database can."""
    ((body,),) = await place.sql(f"SELECT body FROM sidekey_rows WHERE id = '{name}'")
    document = json.loads(body)
    document["document"] = patched(document["document"], patch)
    text = canonical(document).replace("'", "''")
    await place.sql(f"UPDATE sidekey_rows SET body = '{text}' WHERE id = '{name}'")


LIST: Final = copied(SESSION)
"""Users in a list, each with a secret."""
LIST["auth"]["login"]["body"] = {
    "users": [{"name": name, "pin": {"value": f"{CANARY}-{name}"}} for name in ("ann", "bob")]
}


DOCUMENTS: Final = {
    "fields": OAUTH2, "ids": OAUTH2, "entries": LIST, "one": BASIC, "another": BASIC, "bits": BASIC, "untouched": BASIC,
}  # fmt: skip
"""The integrations of `move_values`, by ID."""


def move_values(state: State) -> dict[str, IntegrationRow]:
    """Move sealed values to another field, ID, list entry or row, and flip the last bit of some."""
    rows = state.integrations

    def with_values_of(row: IntegrationRow, values: IntegrationRow) -> IntegrationRow:
        return replace(row, secrets=dict(zip(row.secrets, values.secrets.values(), strict=True)))

    first, second = rows["fields"].secrets
    swapped_secrets = {first: rows["fields"].secrets[second], second: rows["fields"].secrets[first]}
    pins = re.findall('"pin":{"set":true,"id":"([^"]*)"}', rows["entries"].document)
    flipped_secrets = {field: flip_last_bit(secret) for field, secret in rows["bits"].secrets.items()}
    return {
        "fields": replace(rows["fields"], secrets=swapped_secrets),
        "ids": replace(rows["ids"], document=swapped(rows["ids"].document, *rows["ids"].secrets)),
        "entries": replace(rows["entries"], document=swapped(rows["entries"].document, *pins)),
        "one": with_values_of(rows["one"], rows["another"]),
        "another": with_values_of(rows["another"], rows["one"]),
        "bits": replace(rows["bits"], secrets=flipped_secrets),
    }


def swapped(text: str, first: str, second: str) -> str:
    return text.replace(first, "<first>").replace(second, first).replace("<first>", second)


def test_sealed_values_open_only_at_their_location(place: StoreBackend, store_settings: str, tmp_path: Path) -> None:
    """The rows have valid MACs. `store verify` lists the values that do not open."""
    with sidekey(store_settings, tmp_path) as child:
        for name, document in DOCUMENTS.items():
            Api(child.admin_port).create("/integrations", {"id": name, **document})
        assert child.stop() == 0
    write_with_macs(place, move_values)
    closed = DOCUMENTS.keys() - {"untouched"}
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        problems = {item["id"]: item["problem"] or "" for item in api.get("/integrations")["items"]}
        assert {name for name, text in problems.items() if "the stored secret cannot be opened" in text} == closed
        for name in closed:
            assert send(child, name) == (502, "credential_unavailable")
        result = run_cli("store", "verify", "--json", "--config", str(child.config))
        findings = json.loads(result.stdout)["findings"]
        assert result.returncode == 1
        assert {finding.split()[1].rstrip(":") for finding in findings} == closed
        assert all("does not open" in finding for finding in findings)
        assert CANARY not in result.stdout
        assert child.stop() == 0


CHANGES: Final = {
    "body": "body = replace(body, 'example.com', 'example.net')",
    "version": "version = version + 1",
    "kind": "kind = 'preset'",
    "id": "id = 'renamed'",
    "row_id": "row_id = CASE substr(row_id, 1, 1) WHEN 'f' THEN '0' ELSE 'f' END || substr(row_id, 2)",
    "key": "\"key\" = 'k2'",
    "mac": "mac = (SELECT mac FROM sidekey_rows WHERE id = 'other')",
    "all": ", ".join(
        f"{column} = (SELECT {column} FROM sidekey_rows WHERE id = 'other')"
        for column in ("body", "mac", "row_id", "version", '"key"')
    ),
}
"""A change of each column that the MAC of a row covers, and a copy of another row."""


def test_row_changed_by_sql_is_not_used(place: StoreBackend, store_settings: str, tmp_path: Path) -> None:
    """The test changes each column of integrations, and the permissions of callers and tokens."""
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        for name in (*CHANGES, "other"):
            prefix = f"https://{name.replace('_', '-')}.example.com/v1"
            api.create("/integrations", {"id": name, **BASIC, "endpoint_prefix": prefix})
        caller = api.create("/callers", {"name": "a-caller", "integrations": []})["token"]
        operator = api.create("/tokens", {"name": "an-operator", "role": "viewer", "own_token": api.token})["token"]
        assert child.stop() == 0
    for name, change in CHANGES.items():
        asyncio.run(place.sql(f"UPDATE sidekey_rows SET {change} WHERE id = '{name}'"))
    for name, old, new in (
        ("a-caller", '"integrations":[]', '"integrations":["other"]'),
        ("an-operator", '"role":"viewer"', '"role":"admin"'),
    ):
        ((changed,),) = asyncio.run(
            place.sql(
                f"UPDATE sidekey_rows SET body = replace(body, '{old}', '{new}') WHERE id = '{name}' RETURNING body"
            )
        )
        assert new in str(changed)
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        items = {item["id"]: item for item in api.get("/integrations")["items"]}
        assert items.keys() == {*CHANGES, "other", "renamed"} - {"kind", "id"}
        assert {name for name, item in items.items() if item["status"] != "unusable"} == {"other"}
        for name in items.keys() - {"other"}:
            assert "something other than Sidekey changed its row" in items[name]["problem"]
            assert send(child, name) == (502, "credential_unavailable")
        for name in ("kind", "id"):
            assert send(child, name) == (403, "integration_denied")
        assert send(child, "other", caller) == (401, "caller_denied")
        assert api.by(operator).request("GET", "/whoami").status == 401
        assert child.stop() == 0


def test_restored_row_is_logged_and_used_until_the_old_key_is_removed(
    place: StoreBackend, store_settings: str, tmp_path: Path
) -> None:
    """An attacker with access to the database can restore the old row and MAC of a deleted caller."""
    with sidekey(store_settings, tmp_path) as child:
        api = Api(child.admin_port)
        api.create("/integrations", {"id": "one", **BASIC})
        token = api.create("/callers", {"name": "gone", "integrations": ["one"]})["token"]
        columns = "row_id, version, revision, key, mac, body"
        ((*old_values,),) = asyncio.run(place.sql(f"SELECT {columns} FROM sidekey_rows WHERE id = 'gone'"))
        values = [str(value).replace("'", "''") for value in old_values]
        pairs = ", ".join(f"{name} = '{value}'" for name, value in zip(columns.split(", "), values, strict=True))
        restore = f"UPDATE sidekey_rows SET {pairs} WHERE id = 'gone'"
        admitted, refused = send(child, "one", token), (401, "caller_denied")
        assert admitted != refused
        assert api.request("DELETE", "/callers/gone", match='"1"').status == 204
        assert send(child, "one", token) == refused
        asyncio.run(place.sql(restore))
        line = json.loads(child.wait_for_line(lambda line: "a row of the store is older than before" in line))
        assert (line["kind"], line["id"], line["seen"], line["found"]) == ("caller", "gone", 2, 1)
        wait_until(lambda: send(child, "one", token) == admitted)
        assert samples(get(child.admin_port, "/metrics").body)["sidekey_store_rolled_back", ()] == 1
        assert get(child.admin_port, "/readyz").status == 200
        assert api.request("DELETE", "/callers/gone", match='"1"').status == 204
        assert send(child, "one", token) == refused
        (tmp_path / "key2").write_text(b64encode(b"2" * 32).decode())
        text, first, second = child.config.read_text(), "{id: k1, key: {file: key}}", "{id: k2, key: {file: key2}}"
        child.rewrite(text.replace(first, f"{second}, {first}"))
        assert run_cli("store", "rotate-key", "--config", str(child.config)).returncode == 0
        child.rewrite(text.replace(first, second))
        asyncio.run(place.sql(restore))
        child.wait_for_line(lambda line: "a row of the store was altered and is not used" in line)
        assert send(child, "one", token) == refused
        assert child.stop() == 0
