"""forms/: a form changes only the edited keys of a document, for every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidekey.api.openapi import document as openapi
from sidekey.api.routes import ROUTES
from sidekey.credentials.registry import KINDS
from support.api import Api
from support.every_kind import documents_of_every_kind
from support.keys import private_key
from support.ui import ConsoleSetup
from support.ui_modules import run_module

EDIT: Final = """
const { fieldsOf, isDesigned } = await import("./forms/kinds.js");
const { loadValues, saveValues } = await import("./forms/model.js");
return input.map((document) => {
  const fields = fieldsOf(document.auth.type, null, []);
  const values = loadValues(fields, document);
  const titled = saveValues(fields, document, { ...values, title: "Another name" });
  const tested = saveValues(fields, document, { ...values, test: { method: "POST", path: "/x" } });
  return { same: saveValues(fields, document, values), titled, tested, designed: isDesigned(document.auth.type) };
});
"""


def as_stored(value: Any) -> Any:
    """Return a document as the API returns it, with stored secrets."""
    if isinstance(value, dict):
        if value.keys() in ({"value"}, {"url"}):
            return {"set": True, "id": "s_0123456789abcdef", "set_at": "2026-05-03T10:00:00Z", "set_by": "ann"}
        return {key: as_stored(member) for key, member in value.items()}
    return [as_stored(item) for item in value] if isinstance(value, list) else value


def test_form_keeps_all_other_keys(tmp_path: Path) -> None:
    """It also keeps entered secrets, and keys that no form shows."""
    entered = [{"id": name, **document} for name, document in documents_of_every_kind(1, tmp_path).items()]
    more = {
        "description": "kept",
        "tags": ["a"],
        "endpoint_prefix": ["https://a.example/v1", "https://b.example"],
        "limits": {"in_flight": 3},
        "test": {"method": "GET", "path": "/me"},
    }
    documents = [*entered, *map(as_stored, entered), *({**document, **more} for document in map(as_stored, entered))]
    edited = run_module(EDIT, documents)
    assert {result["designed"] for result in edited} == {True, False}
    for before, after in zip(documents, edited, strict=True):
        assert after["same"] == before
        assert after["titled"] == {**before, "title": "Another name"}
        assert after["tested"] == {**before, "test": {"method": "POST", "path": "/x"}}


def test_form_knows_the_read_only_members() -> None:
    schema = openapi(ROUTES)["components"]["schemas"]["NewIntegration"]["properties"]
    read_only = {name for name, member in schema.items() if member.get("readOnly")}
    read_only_in_console = run_module('return (await import("./forms/document.js")).READ_ONLY;', None)
    assert {*read_only_in_console} == read_only - {"id"}


FILL: Final = """
const { fieldsOf } = await import("./forms/kinds.js");
const { loadValues, saveValues } = await import("./forms/model.js");
return input.map(({ kind, provider, fields, texts, key }) => {
  const all = fieldsOf(kind, provider, fields);
  const document = { id: "", auth: { type: kind, ...(provider && { provider: provider.provider }) } };
  const values = loadValues(all, document);
  for (const { key: name, type, required, start, example, options } of all) {
    if (!required) continue;
    if (type === "secret") values[name] = { ...values[name], text: texts.secret };
    else if (type === "pem") values[name] = { ...values[name], text: key };
    else if (type === "prefixes") values[name] = [example];
    else if (type === "choice") values[name] = options[0][0];
    else if (type === "text") values[name] = texts[name] ?? start ?? example ?? `the-${name}`;
  }
  return saveValues(all, document, { ...values, id: "filled-in" });
});
"""


def pem(algorithm: str) -> str:
    return private_key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


TEXTS: Final = {
    "secret": "0123456789abcdef" * 4,
    "region": "eu-west-1",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "login.url": "https://login.example.com/login",
    "token.from": "token",
}


def test_required_fields_of_each_form_make_a_valid_document(shared: ConsoleSetup) -> None:
    """This holds for each kind and provider."""
    api = Api(shared.child.admin_port)
    providers = {item["provider"]: item for item in api.get("/providers")["items"]}
    kinds = [kind for kind in KINDS if kind not in ("mtls", "headers")]
    cases = [*((kind, "") for kind in kinds), *((provider["kind"], name) for name, provider in providers.items())]
    inputs = []
    for kind, provider in cases:
        texts = {**TEXTS, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"} if kind == "signature" else TEXTS
        profile = providers.get(provider)
        examples = {
            parameter["name"]: str(parameter["example"]) for parameter in (profile or {"parameters": []})["parameters"]
        }
        fields = api.get(f"/kinds/{kind}/template?provider={provider}")["fields"]
        key = pem("ES256" if provider == "app-store-connect" else "RS256")
        inputs.append({"kind": kind, "provider": profile, "fields": fields, "texts": {**texts, **examples}, "key": key})
    for case, document in zip(cases, run_module(FILL, inputs), strict=True):
        body = api.request("POST", "/drafts/integration/preview", document).json
        assert (case, body["errors"], body["valid"]) == (case, [], True)
