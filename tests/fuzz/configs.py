"""Config files: YAML of an operator, up to the snapshot or the errors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from fuzz.target import Target
from sidekey.config.load import Loaded, load

_FOLDER: Final = tempfile.TemporaryDirectory()
_PATH: Final = Path(_FOLDER.name, "config.yaml")
_EXAMPLE: Final = Path(__file__).parents[2] / "config" / "example.yaml"


def parse(data: bytes) -> Loaded:
    """Load a config from these bytes."""
    _PATH.write_bytes(data)
    return load(_PATH, {}, 0.0)


def check(data: bytes) -> None:
    """Require a snapshot, or errors that each have a place in the file. A second load must have the same result."""
    loaded = parse(data)
    errors = [str(item) for item in loaded.errors]
    assert (loaded.snapshot is None) is bool(errors)
    assert [str(item) for item in parse(data).errors] == errors


TARGET: Final = Target(
    (
        b"version: 1\n",
        b"version: 1\nlisten: {proxy: 127.0.0.1:0}\ncallers: {a: {token: {env: A}, integrations: [b]}}\n",
        b"version: 1\nintegrations:\n  a:\n    endpoint_prefix: https://a.test/v1\n    auth: &x {type: basic, "
        b"username: u, password: {insecure_value: p}}\n  b: {endpoint_prefix: [https://b.test], auth: *x}\n",
        b"version: 1\nintegrations: {a: {auth: {type: oauth2, grant: client_credentials, "
        b"token_endpoint: https://t.test, client_id: c, client_secret: {env: S}}, "
        b"allowed_domains: ['https://*.test'], allow_other_domains: true}}\n",
        b"version: 1\npresets: {p: {integration: a, url: 'https://a.test/{{x}}', body: {json: {x: '{{x}}'}}, "
        b"parameters: {x: {}}}}\n",
        b'%YAML 1.2\n---\n"\\u0041": ? |\n  x\n: - >-\n',
        b"version: 1\na0: &a0 [x, x, x, x]\n"
        + b"".join(b"a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n" % (n, n, n - 1, n - 1, n - 1, n - 1) for n in range(1, 10)),
        _EXAMPLE.read_bytes(),
    ),
    parse,
    check,
    (
        b"insecure_value: ",
        b"{env: A}",
        b"endpoint_prefix: ",
        b"allowed_domains: ",
        b"headers: ",
        b"auth: ",
        b"type: ",
        b"\n  ",
    ),
)
