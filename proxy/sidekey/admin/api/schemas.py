"""The JSON schemas of the API: those of the config's models, as stored integrations may say them, and its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, get_args

from sidekey.admin.api import preset_documents
from sidekey.admin.api.documents import USABLE
from sidekey.runtime.admin_rules import ROLES
from sidekey.runtime.standing import EXPIRING, FAILING, STATUSES
from sidekey.settings import profiles
from sidekey.settings.models import IntegrationSettings, PresetSettings
from sidekey.settings.schema import DOCUMENT_VALUES, definitions
from sidekey.settings.stored.saving import LONGEST_DESCRIPTION, LONGEST_TAG, MOST_TAGS
from sidekey.settings.values import NAME_PATTERN

Schema = dict[str, Any]

_NAME: Final[Schema] = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_TEXT: Final[Schema] = {"type": "string"}
_MAYBE: Final[Schema] = {"type": ["string", "null"]}
_INSTANT: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_SOURCE: Final[Schema] = {"type": "string", "enum": ["file", "store"]}
_VERSION: Final[Schema] = {"type": ["integer", "null"], "minimum": 1}
_STATUS: Final[Schema] = {
    "type": "string",
    "enum": ["ok", "unusable"],
    "description": "`unusable`: it lets nobody in.",
}
_PROBLEM: Final[Schema] = {"type": ["string", "null"], "description": "Why it is not ok, and what to do; null: it is."}
_IDS: Final[Schema] = {"oneOf": [{"const": "*"}, {"type": "array", "items": {"type": "string"}}]}
_GRANTED: Final[Mapping[str, Schema]] = {
    key: {**_IDS, "description": f'IDs of {key}, or `"*"` for all; those that do not exist yet count once they do.'}
    for key in ("integrations", "presets")
}


def reference(name: str) -> Schema:
    """The reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    found: Schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
    return {**found, "description": description} if description else found


def _page(item: Schema) -> Schema:
    following = {**_MAYBE, "description": "Where the next page begins; null: this is the last."}
    return _object({"items": {"type": "array", "items": item, "maxItems": 50}, "next": following})


_STATUSES: Final = (
    f"The last one that applies. `expiring`: its client certificate ends within {EXPIRING // 86_400} days. `failing`: "
    f"its last {FAILING} requests got 401, 403 or 5xx, or failed. `unusable`: no request is sent with its credential."
)

_ABOUT_SCHEMAS: Final[Mapping[str, Schema]] = {
    "id": {**_NAME, "description": "The ID: lower-case letters, digits, `-` and `_`. It cannot change."},
    "source": {**_SOURCE, "description": "A file's can be changed only there."},
    "version": {**_VERSION, "description": "What `ETag` begins with."},
    "status": {"type": "string", "enum": list(STATUSES), "description": _STATUSES},
    "problem": _PROBLEM,
    "usable": {"type": "boolean", "description": USABLE},
    "expires_at": {**_INSTANT, "description": "When its client certificate ends; null: it has none that is known."},
    "failing_since": {
        **_INSTANT,
        "description": f"When the first of its last failures was, in this process since its start; null where fewer "
        f"than {FAILING} followed one another.",
    },
    "kind": _MAYBE,
    "base": {**_MAYBE, "description": "What the path is appended to at the reverse proxy."},
    "created_at": _INSTANT,
    "updated_at": _INSTANT,
    "updated_by": _MAYBE,
}


_ABOUT_PRESET: Final[Mapping[str, Schema]] = {
    **{key: _ABOUT_SCHEMAS[key] for key in sorted(preset_documents.ABOUT)},
    "status": {"type": "string", "enum": list(preset_documents.STATUSES), "description": "`unusable`: it is refused."},
}


@cache
def components() -> Mapping[str, Schema]:
    """All of them by name. New kinds come by the registry, and nothing here names one."""
    found = definitions([IntegrationSettings, PresetSettings, *DOCUMENT_VALUES], "body")
    integration = found.pop("IntegrationSettings")
    preset = found.pop("PresetSettings")
    text = "An integration; of one from a file, and of one whose row does not verify, there is no `auth`."
    found |= _documents("Integration", integration, _ABOUT_SCHEMAS, text)
    text = "A preset; of one whose row does not verify there is no document."
    found |= _documents("Preset", preset, _ABOUT_PRESET, text)
    draft = found["PresetDocument"]
    found["PresetDraftTrial"] = {**draft, "properties": {**draft["properties"], "sample": reference("PresetTrial")}}
    return {**found, **_OWN}


def _documents(name: str, document: Schema, said: Mapping[str, Schema], description: str) -> dict[str, Schema]:
    """The schemas of a document as it is sent, also for what is new, and as it is shown with what is `said` of it."""
    properties = document["properties"]
    about = {key: {"readOnly": True, **said[key]} for key in sorted(said)}
    sent = {**properties, "description": {**properties["description"], "maxLength": LONGEST_DESCRIPTION}}
    tags: Schema = properties["tags"]
    sent["tags"] = {**tags, "maxItems": MOST_TAGS, "items": {**tags["items"], "maxLength": LONGEST_TAG}}
    required = ["id", *document["required"]]
    return {
        f"{name}Document": {**document, "properties": {**about, **sent}},
        f"New{name}": {**document, "properties": {**about, "id": said["id"], **sent}, "required": required},
        name: {
            **document,
            "description": description,
            "properties": {**about, **properties},
            "required": sorted(said),
        },
    }


_ITEM: Final[Schema] = _object(
    {
        "pointer": {**_TEXT, "description": "A JSON pointer (RFC 6901) into the document."},
        "detail": _TEXT,
        "line": {"type": "integer", "minimum": 1, "description": "Of a YAML body."},
        "column": {"type": "integer", "minimum": 1, "description": "Of a YAML body."},
    },
    optional=("line", "column"),
)
_CALLER: Final[Schema] = {
    "name": _NAME,
    "source": _SOURCE,
    "version": _VERSION,
    "status": _STATUS,
    "problem": _PROBLEM,
    **_GRANTED,
    "created_at": _INSTANT,
    "updated_at": _INSTANT,
    "updated_by": _MAYBE,
}
_TOKEN: Final[Schema] = {
    "name": _NAME,
    "source": _SOURCE,
    "version": _VERSION,
    "status": _STATUS,
    "problem": _PROBLEM,
    "role": {"type": "string", "enum": list(ROLES)},
    "expires_at": _INSTANT,
    "created_at": _INSTANT,
    "created_by": _MAYBE,
    "last_used_at": _INSTANT,
}
_SHOWN_ONCE: Final[Schema] = {"type": "string", "description": "The token, shown in this response alone."}
_ACTIVITY: Final[Schema] = {
    "number": {"type": "integer"},
    "at": {"type": "string", "format": "date-time"},
    "who": {"type": "string", "description": "The name of an operator's token, or of a command."},
    "action": _TEXT,
    "fields": {"type": "array", "items": _TEXT, "description": "Names or JSON pointers of what was changed."},
    "outcome": {
        "type": "string",
        "description": "`ok`, the code of the problem, of a test `failed`, or `sent` until it ends, or `more not "
        "listed` if further events of this token and hour have no entry.",
    },
}
_READ_ONLY_ABOUT_CALLER: Final = {
    key: {"readOnly": True, **_CALLER[key]} for key in _CALLER if key not in ("name", *_GRANTED)
}

_CREDENTIAL: Final[Schema] = {
    **_object({place: {"type": "array", "items": _TEXT} for place in ("headers", "query", "body", "handshake")}),
    "required": [],
    "type": ["object", "null"],
    "description": "Where the credential goes, by name: headers, parameters of the query or the body, the handshake.",
}
_REQUEST: Final[Schema] = {
    **_object(
        {
            "method": _TEXT,
            "url": _TEXT,
            "headers": {
                "type": "array",
                "items": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2},
                "description": "Names and values, in order; `[credential]` stands where the credential goes.",
            },
            "body": _TEXT,
        }
    ),
    "type": ["object", "null"],
    "description": "What the upstream would get; null: nothing would be sent.",
}
_PRESET_TRIAL: Final[Schema] = {
    "parameters": {"type": "object", "description": "For a preset with a body: what a caller would send."},
    "payload": {"type": "string", "description": "For one without: the payload, which is sent in UTF-8."},
    "content_type": {"type": "string", "description": "Of the payload; default: the preset's."},
}

_OWN: Final[Mapping[str, Schema]] = {
    "Integrations": _page(
        _object(
            {**_ABOUT_SCHEMAS, "description": _TEXT, "tags": {"type": "array", "items": _TEXT}},
            description="An integration without its document.",
        )
    ),
    "Presets": _page(
        _object(
            {
                **_ABOUT_PRESET,
                "description": _TEXT,
                "tags": {"type": "array", "items": _TEXT},
                "integration": _MAYBE,
                "method": _MAYBE,
                "url": _MAYBE,
            },
            description="A preset without its whole document.",
        )
    ),
    "Patch": {"type": "object", "description": "A JSON merge patch (RFC 7396)."},
    "TestResult": _object(
        {
            "ok": {"type": "boolean", "description": "Whether the upstream returned 200; of a preset, any 2xx."},
            "request": {"type": "string", "description": "Method and target at the reverse proxy."},
            "status": {"type": ["integer", "null"]},
            "code": {**_MAYBE, "description": "Sidekey's own code, where it refused or failed."},
            "reason": _TEXT,
            "note": _MAYBE,
            "milliseconds": {"type": "integer"},
        },
        description="Nothing of an upstream's response but its status.",
    ),
    "Preview": _object(
        {
            "valid": {"type": "boolean", "description": "Whether it may be saved as it is."},
            "version": {**_VERSION, "description": "Of the stored integration that it would replace; null: none."},
            "errors": {"type": "array", "items": _ITEM, "description": "What saving would refuse as `invalid`."},
            "warnings": {"type": "array", "items": _ITEM},
            "reenter": {
                "type": "array",
                "items": _ITEM,
                "description": "Secrets that must be sent again, or saving is refused as `reenter`.",
            },
            "certificate": {
                "oneOf": [
                    {"type": "null"},
                    _object(
                        {
                            "subject": _TEXT,
                            "issuer": _TEXT,
                            "alternative_names": {"type": "array", "items": _TEXT},
                            "not_after": {"type": "string", "format": "date-time"},
                        }
                    ),
                ],
                "description": "The client's certificate that the document has in PEM.",
            },
            "destination": {
                "oneOf": [
                    {"type": "null"},
                    _object(
                        {
                            "base": _ABOUT_SCHEMAS["base"],
                            "prefixes": {"type": "array", "items": _TEXT},
                            "domains": {"type": "array", "items": _TEXT},
                            "learns": {
                                "type": "boolean",
                                "description": "Whether the token response brings the base.",
                            },
                        }
                    ),
                ],
                "description": "Where the credential would go: where there are prefixes and domains, both must allow "
                "a target. Null while something else is not valid.",
            },
        },
        description="What saving would do. Nothing of a secret is in it.",
    ),
    "PresetTrial": _object(_PRESET_TRIAL, optional=tuple(_PRESET_TRIAL)),
    "PresetPreview": _object(
        {
            "preset": {**_MAYBE, "description": "Its ID; null: a draft without one."},
            "integration": _NAME,
            "request": _REQUEST,
            "credential": _CREDENTIAL,
            "code": {**_MAYBE, "description": "Sidekey's own code, where it would refuse the request."},
            "reason": _MAYBE,
        },
    ),
    "ExplainRequest": _object(
        {
            "url": {"type": "string", "description": "An absolute URL, or a path as it follows `/i/ID`."},
            "method": {"type": "string", "description": "The request's method. Default: GET, where it is allowed."},
            "headers": {
                "type": "array",
                "items": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2},
                "description": "The request's headers: names and values.",
            },
            "body": {"type": "string", "description": "The request's body, taken as UTF-8."},
            "at": {
                "type": "string",
                "description": "When it is signed: as `2026-01-31T23:59:59Z`, or in Unix seconds. Default: now.",
            },
        },
        optional=("method", "headers", "body", "at"),
        description="What is beside `url` counts where requests are signed, and `method` everywhere.",
    ),
    "Explanation": {
        "type": "object",
        "properties": {
            "integration": _NAME,
            "kind": _TEXT,
            "door": {"type": "string", "enum": ["reverse", "forward"]},
            "as_sent": _TEXT,
            "sent_on": _MAYBE,
            "upgraded": {"type": "boolean"},
            "allowed": {"type": "boolean"},
            "passes": {"type": "boolean"},
            "code": _MAYBE,
            "reason": _TEXT,
            "rule": _MAYBE,
            "credential": {"type": ["object", "null"]},
            "usable": {"type": "boolean"},
            "methods": {"type": ["array", "null"], "items": _TEXT},
            "profile": {"type": "object"},
            "note": _MAYBE,
            "signed": {
                "type": "array",
                "items": _TEXT,
                "description": "Where requests are signed, the bytes that are, escaped, with `[redacted]` for what is "
                "injected; never a signature.",
            },
            "unsigned": {**_MAYBE, "description": "Why what is signed is not known."},
        },
        "required": ["integration", "allowed", "reason"],
    },
    "Caller": _object(_CALLER),
    "CallerWithToken": _object({**_CALLER, "token": _SHOWN_ONCE}),
    "Callers": _page(_object(_CALLER)),
    "NewCaller": _object(
        {"name": _NAME, **_GRANTED, **_READ_ONLY_ABOUT_CALLER},
        optional=(*_GRANTED, *_READ_ONLY_ABOUT_CALLER),
    ),
    "CallerDocument": _object(
        {"name": _NAME, **_GRANTED, **_READ_ONLY_ABOUT_CALLER},
        optional=("name", "presets", *_READ_ONLY_ABOUT_CALLER),
    ),
    "Token": _object(_TOKEN),
    "TokenWithToken": _object({**_TOKEN, "token": _SHOWN_ONCE}),
    "Tokens": _page(_object(_TOKEN)),
    "NewToken": _object(
        {
            "name": _NAME,
            "role": {"type": "string", "enum": list(ROLES)},
            "expires_at": {**_INSTANT, "description": "In UTC, such as `2030-01-31T00:00:00Z`; null: never."},
            "own_token": {"type": "string", "writeOnly": True, "description": "The token of this request, again."},
        },
        optional=("expires_at",),
    ),
    "WhoAmI": _object(
        {
            "name": _NAME,
            "role": {"type": "string", "enum": list(ROLES)},
            "source": _SOURCE,
            "expires_at": _INSTANT,
        }
    ),
    "Activity": _page(_object(_ACTIVITY)),
    "Audit": _page(
        _object(
            {
                **_ACTIVITY,
                "object": {"type": "string", "description": "integration, preset, caller, token, or nothing."},
                "name": _TEXT,
                "from": {
                    "type": "string",
                    "description": "The address of whoever did it, and `by` which proxy (`admin.behind_tls`).",
                },
            }
        )
    ),
    "Kinds": _object(
        {
            "items": {
                "type": "array",
                "items": _object(
                    {
                        "kind": _TEXT,
                        "description": _TEXT,
                        "needs_endpoint_prefix": {"type": "boolean"},
                        "brings_certificate": {"type": "boolean"},
                        "providers": {"type": "array", "items": _TEXT},
                        "schema": {"type": "object", "description": "The JSON schema of `auth`."},
                    }
                ),
            },
            "schemas": {"type": "object", "description": "What the schemas refer to, by name."},
        }
    ),
    "Providers": _object(
        {
            "items": {
                "type": "array",
                "items": _object(
                    {
                        "provider": _TEXT,
                        "kind": _TEXT,
                        "title": _TEXT,
                        "aliases": {"type": "array", "items": _TEXT, "description": "Other names of the platform."},
                        "category": {"type": "string", "enum": list(get_args(profiles.Category))},
                        "popular": {"type": "boolean"},
                        "documentation": _TEXT,
                        "notes": _TEXT,
                        "test": {
                            "type": ["object", "null"],
                            "properties": {"method": _TEXT, "path": _TEXT},
                            "description": "A suggestion for `test` of an integration, which has it only if it is set.",
                        },
                        "sources": {"type": "array", "items": _TEXT, "description": "None: from memory."},
                        "unconfirmed": {
                            "type": "object",
                            "additionalProperties": {"enum": ["one source", "memory"]},
                            "description": "Facts that less than two sources say, with what they rest on.",
                        },
                        "parameters": {"type": "array", "items": {"type": "object"}},
                        "secrets": {
                            "type": "array",
                            "items": _object({"name": _TEXT, "description": _TEXT}),
                            "description": "Each is a key of `auth`, written as a secret.",
                        },
                    }
                ),
            }
        }
    ),
    "OpenApi": {"type": "object", "description": "An OpenAPI 3.1 document."},
    "Problem": _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "instance": _TEXT,
            "code": _TEXT,
            "errors": {
                "type": "array",
                "items": _ITEM,
                "description": "All that is wrong with the body.",
            },
            "presets": {"type": "array", "items": _TEXT, "description": "Of `in_use`: the IDs of those that use it."},
        },
        optional=("errors", "presets"),
        description="RFC 9457. Nothing of it repeats a value that was sent.",
    ),
}
