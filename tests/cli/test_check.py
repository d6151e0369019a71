"""`sidekey check`: output and exit status."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidekey.cli.check import check_urls
from sidekey.config.load import Loaded, load
from support.certificate_files import valid_now
from support.certificates import SERVER_AUTH, issue
from support.commands import INVALID, INVALID_PLACES, SECRET, TOKENS, write_config
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.sidekey_process import run_cli, run_process
from support.upstream import RawUpstream, Script
from support.workload import Cluster


def test_check_counts_integrations_of_a_valid_config(tmp_path: Path) -> None:
    """Warnings do not change the exit status."""
    result = run_cli("check", "--config", write_config(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    *warnings, last = result.stdout.splitlines()
    assert last == "ok: 2 integrations"
    assert [line.partition(": ")[0] for line in warnings] == ["warning"]


def test_check_lists_every_error_with_its_location(tmp_path: Path) -> None:
    path = write_config(tmp_path, INVALID)
    result = run_cli("check", "--config", path)
    assert result.returncode == 1
    locations = [line.removeprefix(f"{path}:") for line in result.stdout.splitlines() if not line.startswith("warning")]
    assert len(locations) >= len(INVALID_PLACES)
    for expected in INVALID_PLACES:
        assert any(location.startswith(expected) for location in locations), (expected, locations)


@pytest.mark.parametrize(("extra", "last"), [(1, "1 more error"), (37, "37 more errors")])
def test_check_counts_the_errors_that_it_does_not_list(extra: int, last: str, tmp_path: Path) -> None:
    keys = "".join(f"zz{number}: 1\n" for number in range(200 + extra))
    result = run_cli("check", "--config", write_config(tmp_path, f"version: 1\n{keys}"))
    assert result.stdout.count("unknown key") == 200
    assert f"{last}: correct the first 200, then check again" in result.stdout


def test_check_reports_an_unreadable_secret(tmp_path: Path) -> None:
    """`run` starts without the secret, but `check` fails."""
    result = run_cli("check", "--config", write_config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stdout
    assert "ok:" not in result.stdout


def test_check_prints_json(tmp_path: Path) -> None:
    path = write_config(tmp_path, INVALID)
    result = run_cli("check", "--json", "--config", path)
    report = json.loads(result.stdout)
    assert (result.returncode, report["ok"], report["integrations"]) == (1, False, 0)
    assert {"file", "line", "column", "path", "message"} == set(report["faults"][0])
    assert {error["file"] for error in report["faults"]} == {path}
    good = json.loads(run_cli("check", "--json", "--config", write_config(tmp_path)).stdout)
    assert (good["ok"], good["integrations"], good["faults"]) == (True, 2, [])


def test_check_warns_of_a_token_in_the_query(tmp_path: Path) -> None:
    (tmp_path / "shop-secret").write_text(SECRET)
    path = write_config(tmp_path, TOKENS)
    result = run_cli("check", "--config", path)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"warning: {path}:10:24: integrations.shop.auth.token_placement: "
        "a token in the query appears in the logs of servers (RFC 6750 2.3)",
        f"warning: {path}:17:34: integrations.campaigns.auth.password.insecure_value: "
        "a secret is written in the config file: use this for trials only",
        "ok: 2 integrations",
    ]


def test_check_reports_an_unreadable_client_secret(tmp_path: Path) -> None:
    result = run_cli("check", "--config", write_config(tmp_path, TOKENS))
    assert result.returncode == 1
    assert ":9:22: integrations.shop.auth.client_secret: the file does not exist" in result.stdout


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("integrations:\n\tcrm: {}\n", "3:1: (file): indentation must be spaces: there is a tab on this line"),
        (
            "log: {level: info\n",
            "2:6: (file): this { is not closed: } must follow the last entry, and a comma each one before",
        ),
        ('via: "yes\n', '2:6: (file): this quote is not closed: " must also end the text'),
        ("log: level: info\n", "2:11: (file): a text with a colon and a space in it must be in quotes"),
        ("log: {}\nlog: {}\n", "3:1: log: this key is given twice: remove one; the first is in line 2"),
        ("netwrok: {}\n", "2:1: netwrok: unknown key; did you mean network?"),
    ],
)
def test_check_explains_yaml_errors_with_their_location(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    result = run_cli("check", "--config", str(path))
    assert (result.returncode, result.stdout.splitlines()[0]) == (1, f"{path}:{line}")


AUTH = "{type: headers, headers: {X-Tenant: acme}}"
OAUTH2 = "{type: oauth2, token_endpoint: 'https://HOST/token', client_id: id, client_secret: {env: SECRET}}"
LOGIN = OAUTH2.replace("HOST", "auth.example.com")
WAY_OUT = "to allow_private of the integration, or to network.allow_private"
NOT_GLOBAL = "endpoint_prefix: {} is not a global address ({}): add {} " + WAY_OUT
NEVER = "endpoint_prefix: {} is never dialled ({}), even with allow_private: use another address"
OUTSIDE = (
    "endpoint_prefix: no request passes, because {} is not an allowed domain: change it, or add it to allowed_domains, "
    "with allow_other_domains: true"
)


@pytest.mark.parametrize(
    ("keys", "warnings"),
    [
        (f"endpoint_prefix: 'https://api.example.com', auth: {AUTH}", []),
        (f"endpoint_prefix: 'https://93.184.216.34', auth: {AUTH}", []),
        (f"endpoint_prefix: 'https://mixed.test', auth: {AUTH}", []),
        (f"endpoint_prefix: 'https://up.test', allow_private: [10.0.0.0/8], auth: {AUTH}", []),
        (
            f"endpoint_prefix: ['https://api.example.com', 'https://10.1.2.3/v1'], auth: {AUTH}",
            [NOT_GLOBAL.format("10.1.2.3", "private", "10.1.2.3/32")],
        ),
        (
            f"endpoint_prefix: 'https://[fd00::7]', auth: {AUTH}",
            [NOT_GLOBAL.format("fd00::7", "not global unicast", "fd00::7/128")],
        ),
        (
            f"endpoint_prefix: 'https://[64:ff9b::a01:203]', auth: {AUTH}",
            [NOT_GLOBAL.format("64:ff9b::a01:203", "private", "10.1.2.3/32")],
        ),
        (
            f"endpoint_prefix: 'https://localhost:8000', auth: {AUTH}",
            [NOT_GLOBAL.format("localhost is 127.0.0.1, which", "loopback", "127.0.0.1/32")],
        ),
        (
            f"endpoint_prefix: 'https://up.test', auth: {AUTH}",
            [NOT_GLOBAL.format("up.test is 10.0.0.5, which", "private", "10.0.0.5/32")],
        ),
        (
            f"endpoint_prefix: 'https://169.254.169.254', allow_private: [169.254.0.0/16], auth: {AUTH}",
            [NEVER.format("169.254.169.254", "cloud metadata")],
        ),
        (
            f"endpoint_prefix: 'https://[2002:a00:1::]', auth: {AUTH}",
            [NEVER.format("2002:a00:1::", "6to4")],
        ),
        (
            f"auth: {OAUTH2.replace('HOST', 'up.test')}",
            [f"up.test is 10.0.0.5, which is not a global address (private): add 10.0.0.5/32 {WAY_OUT}"],
        ),
        (f"endpoint_prefix: 'https://auth.example.com/v1', auth: {LOGIN}", []),
        (f"endpoint_prefix: 'https://api.example.com/v1', auth: {LOGIN}", [OUTSIDE.format("https://api.example.com")]),
        (
            f"endpoint_prefix: ['https://auth.example.com', 'http://auth.example.com:80/x'], auth: {LOGIN}",
            [OUTSIDE.format("http://auth.example.com"), "endpoint_prefix[1]: the credential travels in the clear"],
        ),
    ],
)
def test_check_warns_of_targets_that_are_always_denied(keys: str, warnings: list[str], tmp_path: Path) -> None:
    """Sidekey denies each such request when it arrives, so the config is valid."""
    config = tmp_path / "sidekey.yaml"
    hosts = "hosts: {up.test: [10.0.0.5], mixed.test: [10.0.0.5, 93.184.216.34]}"
    config.write_text(f"version: 1\nnetwork: {{{hosts}}}\nintegrations:\n  it: {{{keys}}}\n")
    result = run_cli("check", "--config", str(config), environment={"SECRET": SECRET})
    *lines, last = result.stdout.splitlines()
    assert (result.returncode, last) == (0, "ok: 1 integration")
    assert [line.partition(": integrations.it")[2].lstrip(".: ") for line in lines] == warnings


def test_check_does_not_warn_of_addresses_if_there_are_errors(tmp_path: Path) -> None:
    """The key that allows the address may be one of the keys with errors."""
    config = tmp_path / "sidekey.yaml"
    network = "{allow_private: [10.0.0.0/8], more: 1}"
    integration = f"{{endpoint_prefix: 'https://10.1.2.3', auth: {AUTH}}}"
    config.write_text(f"version: 1\nnetwork: {network}\nintegrations: {{it: {integration}}}\n")
    result = run_cli("check", "--config", str(config))
    assert result.returncode == 1
    (line,) = result.stdout.splitlines()
    assert "network.more: unknown key" in line


@pytest.mark.parametrize("path", ["/v1/*", "/v1/users/{id}", "/v1/a}b", "/{}", "/*/orders"])
def test_check_refuses_wildcard_or_placeholder_in_prefix(path: str, tmp_path: Path) -> None:
    """The message explains prefixes."""
    config = tmp_path / "sidekey.yaml"
    headers = "auth: {type: headers, headers: {X-Tenant: acme}}"
    settings = f"endpoint_prefix: 'https://api.example.com{path}', {headers}"
    read = f"endpoint_prefix: {{env: PREFIX}}, {headers}"
    config.write_text(f"version: 1\nintegrations:\n  written: {{{settings}}}\n  read: {{{read}}}\n")
    result = run_cli("check", "--config", str(config), environment={"PREFIX": f"https://api.example.com{path}"})
    reason = (
        "must not contain *, { or }: a prefix is the fixed beginning of a URL, without wildcards or placeholders, and "
        "allows everything under it; end it before this segment"
    )
    assert result.returncode == 1
    for name in ("written", "read"):
        assert f"integrations.{name}.endpoint_prefix: {reason}" in result.stdout


@pytest.mark.parametrize("key", ["token_url", "token_uri", "access_token_url"])
def test_check_suggests_token_endpoint_for_its_synonyms(key: str, tmp_path: Path) -> None:
    """Other products use these names. The most similar key would be `token_request`."""
    config = tmp_path / "sidekey.yaml"
    auth = (
        f"auth: {{type: oauth2, {key}: 'https://auth.example.com/token', client_id: id, client_secret: {{env: HOME}}}}"
    )
    config.write_text(f"version: 1\nintegrations:\n  it: {{{auth}}}\n")
    output = run_cli("check", "--config", str(config)).stdout
    assert f"integrations.it.auth.{key}: unknown key; did you mean token_endpoint?\n" in output


def test_check_refuses_operator_token_and_store_key_in_the_config(tmp_path: Path) -> None:
    """Other secrets are allowed there for trials."""
    config = tmp_path / "sidekey.yaml"
    config.write_text(
        "version: 1\n"
        f"admin: {{tokens: {{ann: {{token: {{insecure_value: {SECRET}}}, role: admin}}}}}}\n"
        f"store: {{path: store.db, keys: [{{id: k1, key: {{insecure_value: {SECRET}}}}}]}}\n"
    )
    output = run_cli("check", "--config", str(config)).stdout
    reason = "this secret may not be in the config file, even for trials: use {file: PATH} or {env: NAME}"
    for key in ("admin.tokens.ann.token", "store.keys[0].key"):
        assert f" {key}: {reason}\n" in output
    assert SECRET not in output


def test_check_suggests_kinds_keys_and_providers(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text(
        "version: 1\nintegrations:\n"
        "  a: {endpoint_prefix: https://a.example.com, auth: {type: bearer}}\n"
        "  b: {endpoint_prefix: https://a.example.com, auth: {type: apikey}}\n"
        "  c: {endpoint_prefix: https://a.example.com, auth: {type: header}}\n"
        "  d: {auth: {type: oauth}}\n"
        "  e: {endpoint_prefx: https://a.example.com, auth: {type: headers, headers: {X-Key: '${KEY}'}}}\n"
        "  f: {auth: {type: oauth2, provider: comercetools, region: europe-west1.gcp, client_id: x, "
        "client_secret: {env: NONE_SUCH}}}\n"
    )
    output = run_cli("check", "--config", str(path)).stdout
    for location, suggestion in (
        ("a.auth.type", "headers"),
        ("b.auth.type", "headers"),
        ("c.auth.type", "headers"),
        ("d.auth.type", "oauth2"),
        ("e.endpoint_prefx", "endpoint_prefix"),
        ("f.auth.provider", "commercetools"),
    ):
        (line,) = [text for text in output.splitlines() if f" integrations.{location}: " in text]
        assert line.endswith(f"did you mean {suggestion}?")
    assert "integrations.f.auth.client_secret: environment variable NONE_SUCH is not set" in output
    assert "integrations.e.auth.headers.X-Key: nothing is expanded: write {env: NAME}" in output


def config(folder: Path, ca: Authority, port: int) -> Path:
    """Write a config of three integrations with certificates at URLs."""
    path = folder / "sidekey.yaml"
    head = 'hosts: {up.test: ["127.0.0.1"]}, allow_private: ["127.0.0.0/8"]'
    mtls = "type: mtls, allow_private_ca: true"
    path.write_text(f"""\
version: 1
network: {{{head}, trusted_ca: {{file: {ca.bundle}}}}}
integrations:
  good:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, pem: {{url: "https://up.test:{port}/good"}}}}
  old:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, pem: {{url: "https://up.test:{port}/old"}}}}
  gone:
    endpoint_prefix: https://api.example.com
    auth: {{{mtls}, certificate: {{url: "https://up.test:{port}/gone?k=not-to-be-seen"}}, private_key: {{file: key}}}}
""")
    return path


def serving() -> Script:
    good = valid_now()
    old = issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31))
    bodies = {b"/good": good.pem + good.key_pem, b"/old": old.pem + old.key_pem}

    async def script(connection: RawConnection) -> None:
        body = bodies.get((await connection.request()).target, b"")
        status = b"200" if body else b"410"
        await connection.send(b"HTTP/1.1 %b x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return script


async def test_check_fetches_every_certificate_and_lists_all_errors(ca: Authority, tmp_path: Path) -> None:
    """The output omits the query of a URL."""
    async with RawUpstream(serving(), ssl_context=ca.server_context("up.test")) as upstream:
        path = config(tmp_path, ca, upstream.port)
        result = await asyncio.to_thread(run_process, "check", "--config", str(path))
        as_json = await asyncio.to_thread(run_process, "check", "--json", "--config", str(path))
        assert len(upstream.connections) == 6
    assert (result.returncode, result.stderr) == (1, "")
    locations = [line.removeprefix(f"{path}:") for line in result.stdout.splitlines()]
    assert locations == [
        "9:53: integrations.old.auth.pem: this certificate expired on 2026-02-01 00:00 UTC",
        "12:61: integrations.gone.auth.certificate: the server returned 410",
        "12:128: integrations.gone.auth.private_key: the file does not exist; "
        "a relative path starts at the config file's folder",
    ]
    assert [error["line"] for error in json.loads(as_json.stdout)["faults"]] == [9, 12, 12]
    assert "not-to-be-seen" not in result.stdout + as_json.stdout


async def test_check_warns_of_a_fetched_certificate_without_client_auth(ca: Authority, tmp_path: Path) -> None:
    issued = issue(start=datetime.now(UTC) - timedelta(days=1), usages=[SERVER_AUTH])
    body = issued.pem + issued.key_pem

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with RawUpstream(script, ssl_context=ca.server_context("up.test")) as upstream:
        path = config(tmp_path, ca, upstream.port)
        path.write_text(path.read_text().partition("  old:")[0])
        result = await asyncio.to_thread(run_process, "check", "--config", str(path))
    assert result.returncode == 0
    warning, last = result.stdout.splitlines()
    assert warning.startswith(f"warning: {path}:6:53: integrations.good.auth.pem: the extended key usage lacks")
    assert last == "ok: 1 integration"


def test_nothing_is_fetched_for_a_config_with_errors() -> None:
    with pytest.raises(ValueError, match="errors"):
        check_urls(Loaded())


def test_integration_with_unfetched_certificate_counts_as_usable(ca: Authority, tmp_path: Path) -> None:
    loaded = load(config(tmp_path, ca, 1))
    assert loaded.snapshot is not None
    assert loaded.of("unreadable") == []
    assert all(integration.usable for integration in loaded.snapshot.integrations.values())


@pytest.mark.parametrize(
    ("key", "auth"),
    [
        (
            "client_authentication.assertion",
            "type: oauth2, token_endpoint: https://auth.example.com/token, client_id: id, "
            "client_authentication: {type: assertion, assertion: {file: token}}",
        ),
        (
            "subject_token",
            "type: session, provider: google-service-account-impersonation, project_number: '1', pool: kubernetes, "
            "pool_provider: my-cluster, service_account: robot@shop.iam.gserviceaccount.com, api: storage, "
            "subject_token: {file: token}",
        ),
    ],
)
def test_check_reports_an_expired_token_of_a_file(key: str, auth: str, tmp_path: Path) -> None:
    """A running Sidekey makes no call with it. With a profile, the error is at the key in the document."""
    path, token = tmp_path / "sidekey.yaml", tmp_path / "token"
    line = f"  crm: {{auth: {{{auth}}}}}\n"
    path.write_text(f"version: 1\nintegrations:\n{line}")
    cluster = Cluster()
    for lifetime, status in ((3600, 0), (-180, 1)):
        token.write_text(cluster.token("https://auth.example.com", lifetime=lifetime))
        token.chmod(0o600)
        result = run_cli("check", "--config", str(path))
        assert result.returncode == status, result.stdout
    column = line.index("{file: token}") + 1
    assert result.stdout.startswith(f"{path}:3:{column}: integrations.crm.auth.{key}: the token in token expired on 20")
    assert token.read_text() not in result.stdout


def test_check_reports_a_token_file_that_others_can_change(tmp_path: Path) -> None:
    """Whoever writes it decides the identity."""
    path, token = tmp_path / "sidekey.yaml", tmp_path / "token"
    auth = (
        "{type: oauth2, token_endpoint: https://auth.example.com/token, "
        "grant: {type: token_exchange, subject_token: {file: token}}}"
    )
    path.write_text(f"version: 1\nintegrations:\n  crm: {{auth: {auth}}}\n")
    token.write_text("opaque")
    token.chmod(0o666)
    result = run_cli("check", "--config", str(path))
    assert result.returncode == 1
    assert f"every user (mode 0666): run chmod o-w {token}" in result.stdout
