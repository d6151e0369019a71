"""The chart's schema of values accepts and refuses the same configs as the config's own schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema.validators import Draft7Validator, Draft202012Validator

from support import helm
from support.profiles import auth_of
from tools import values_schema

CONFIG_SCHEMA = json.loads(values_schema.CONFIG_SCHEMA.read_text("utf-8"))
SCHEMA = json.loads(values_schema.render())
CONFIG = Draft202012Validator(CONFIG_SCHEMA)
CHART = Draft7Validator({"$ref": "#/definitions/Config", "definitions": SCHEMA["definitions"]})

OF_THE_CHART = {"version", "listen", "callers", "allow_unauthenticated", "store", "admin"}
SECTIONS = CONFIG_SCHEMA["properties"].keys() - {"version", "allow_unauthenticated", "via"}
"""Sections for which null means absent."""
EXAMPLES = [
    yaml.safe_load(path.read_text("utf-8").replace("insecure_value", "file"))
    for path in sorted((helm.ROOT / "config").glob("*.yaml"))
]
PROVIDERS = ["commercetools", "dotdigital", "mailchimp", "klaviyo", "tableau", "ghost"]
CONFIGS = [
    {key: value for key, value in example_config.items() if key not in OF_THE_CHART} for example_config in EXAMPLES
]
CONFIGS.append({"integrations": {name: {"auth": auth_of(name)} for name in PROVIDERS}})
"""Configs that both schemas accept."""

FILE = {"file": "/run/secrets/x"}
REPLACEMENTS = [
    *(None, True, 12, 1.5, "text", "", [], {}, ["text"], [FILE], FILE, {"env": "X"}, {**FILE, "env": "X"}),
    *({"url": "https://x.example"}, {"inline": "PEM"}, {"other": "x"}, {"other": FILE}),
    *({"prefix": "Bearer ", "secret": FILE}, {"secret": FILE, "other": 1}, {"type": "none"}, {"type": "basic"}),
]
"""The values that replace a part of a config."""

Path = tuple[str | int, ...]


def paths(node: Any, above: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values in a document."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in entries:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def changed(config: dict[str, Any], path: Path, change: str, value: Any) -> dict[str, Any]:
    """Change one value of a config: `put` another in its place, `drop` it, or `add` a key beside it."""
    result = deepcopy(config)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    if change == "put":
        inner[path[-1]] = deepcopy(value)
    elif change == "drop":
        del inner[path[-1]]
    elif isinstance(inner, dict):
        inner["other"] = deepcopy(value)
    return result


@st.composite
def mistakes(draw: st.DrawFn) -> tuple[dict[str, Any], Path, str, Any]:
    """Generate a config, a path in it, and a change."""
    config = draw(st.sampled_from(CONFIGS))
    path = draw(st.sampled_from(list(paths(config))))
    return config, path, draw(st.sampled_from(["put", "put", "drop", "add"])), draw(st.sampled_from(REPLACEMENTS))


@given(mistakes())
@example((CONFIGS[0], ("integrations",), "add", "x"))
@example((CONFIGS[0], next(path for path in paths(CONFIGS[0]) if path[-1] == "endpoint_prefix"), "put", []))
def test_chart_and_config_schema_refuse_the_same(mistake: tuple[dict[str, Any], Path, str, Any]) -> None:
    """The chart is stricter about secrets and texts such as `off`. A mapping with only `file` is a reference."""
    config = changed(*mistake)
    errors = list(CHART.iter_errors(config))
    written = {key: value for key, value in config.items() if key not in SECTIONS or value is not None}
    if not CONFIG.is_valid({"version": 1, **written}):
        assert errors
    else:
        unlike = [error for error in errors if error.absolute_path[-1] not in ("file", "env")]
        assert {error.validator for error in unlike} <= {"const"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: next(iter(config["integrations"])))
def test_chart_schema_accepts_every_example_and_profile(config: dict[str, Any]) -> None:
    assert [error.message for error in CHART.iter_errors(config)] == []
    assert CONFIG.is_valid({"version": 1, **config})


def test_schema_is_draft_7_with_resolvable_references() -> None:
    """Draft 7 ignores keywords beside a reference."""
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator.check_schema(json.loads(values_schema.CHART_SCHEMA.read_text("utf-8")))
    later = {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "dependentSchemas", "minContains"}
    for schema in [*SCHEMA["definitions"].values(), *SCHEMA["properties"].values()]:
        for node in values_schema.subschemas(schema):
            assert not later & node.keys()
            if "$ref" in node:
                assert node.keys() == {"$ref"}
                assert node["$ref"].removeprefix("#/definitions/") in SCHEMA["definitions"]


def test_chart_definition_replaces_keywords_and_properties() -> None:
    """Other properties of the config stay, and its sections may be empty."""
    config = {
        "$defs": {"Inner": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "boolean"}}}},
        "type": "object",
        "properties": {"inner": {"$ref": "#/$defs/Inner"}, "version": {"const": 1}},
        "required": ["version"],
    }
    chart = {
        "properties": {"config": {"$ref": "#/definitions/Config"}},
        "definitions": {
            "Config": {"properties": {"version": {"const": "left out"}}, "required": []},
            "Inner": {"properties": {"x": {"const": 5}}},
            "unused": {},
        },
    }
    assert values_schema.combine(chart, config)["definitions"] == {
        "Config": {
            "type": "object",
            "required": [],
            "properties": {
                "inner": {"if": {"type": "null"}, "then": {}, "else": {"$ref": "#/definitions/Inner"}},
                "version": {"const": "left out"},
            },
        },
        "Inner": {"type": "object", "properties": {"x": {"const": 5}, "y": {"type": "boolean"}}},
    }
