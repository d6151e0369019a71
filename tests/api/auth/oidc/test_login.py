"""Log-in with OpenID Connect: roles, sessions, invalid ID tokens and failing issuers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from socket import create_connection, create_server
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from support.api import OF_A_FILE, Api, ApiResponse, basic
from support.company_login import ROLES, CompanyLogin, OidcBrowser, company, text
from support.http_get import get, wait_until
from support.oidc import SECRET
from support.private_ca import Authority
from support.scraping import series
from support.sidekey_process import SidekeyProcess

ANN = {"sub": "ann-8f1c", "name": "Ann Roe", "groups": ["readers", "editors", "unknown"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, ca: Authority) -> Iterator[CompanyLogin]:
    """Run a Sidekey behind a proxy, so that each test can have its own client address and rate limits."""
    with company(tmp_path_factory.mktemp("company"), ca, admin="behind_tls: true, ") as process:
        yield process


@pytest.fixture
def firm(shared: CompanyLogin) -> Iterator[CompanyLogin]:
    """Return the company with Ann logged in at the issuer and valid ID tokens."""
    shared.issuer.person(ANN)
    yield shared
    shared.issuer.forge()


NUMBERS = iter(range(1, 250))


@pytest.fixture
def browser(firm: CompanyLogin) -> OidcBrowser:
    return firm.browser(f"198.51.100.{next(NUMBERS)}")


def test_person_gets_the_highest_role(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """The identity is issuer and subject. The name is only a label."""
    assert browser.request("GET", "/session").json == {
        "who": None,
        "oidc": True,
        "oidc_problem": None,
        "store": "ready",
    }
    response = browser.log_in()
    assert response.status == 201, response
    identity = f"oidc:{firm.issuer.issuer}#ann-8f1c"
    who = {"name": identity, "identity": identity, "label": "Ann Roe", "role": "editor", "source": "oidc"}
    assert response.json.items() >= {**who, "presets": None, "per_minute": 60, "expires_at": None}.items()
    assert browser.request("GET", "/whoami").json == response.json
    cookies = response.headers.get_all("Set-Cookie")
    assert cookies[1] == "__Host-sidekey-oidc=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure"
    assert set(browser.cookies) == {"__Host-sidekey-ui"}
    copied = firm.browser("198.51.100.250")
    copied.cookies = dict(browser.cookies)
    assert browser.request("DELETE", "/session").status == 204
    assert copied.request("GET", "/whoami").code == "unauthenticated"


def test_request_to_the_issuer_binds_the_browser(browser: OidcBrowser) -> None:
    """State, nonce, challenge and cookie differ."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(browser.start()).query).items()}
    assert query.keys() == {
        *("response_type", "client_id", "redirect_uri", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method"),
    }
    assert (query["response_type"], query["code_challenge_method"], query["scope"]) == (
        "code",
        "S256",
        "openid profile",
    )
    secrets = {query["state"], query["nonce"], query["code_challenge"], browser.cookies["__Host-sidekey-oidc"]}
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {43}


def refusal(response: ApiResponse, code: str = "oidc_failed") -> str:
    """Check that a log-in was refused without a session, and return the reason."""
    assert response.code == code, response
    assert not any("sidekey-ui" in header for header in response.headers.get_all("Set-Cookie", []))
    return str(response.json["detail"])


HOUR = 3600

FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "issuer": ({"claims": {"iss": "https://evil.example"}}, "another issuer"),
    "issuer with a slash": ({"claims": {"iss": "SLASH"}}, "another issuer"),
    "no issuer": ({"claims": {"iss": None}}, "another issuer"),
    "audience": ({"claims": {"aud": "other"}}, "another client"),
    "audience that contains ours": ({"claims": {"aud": "basic2"}}, "another client"),
    "no audience": ({"claims": {"aud": None}}, "another client"),
    "two audiences": ({"claims": {"aud": ["basic", "other"]}}, "issued to another client"),
    "two audiences of another": ({"claims": {"aud": ["basic", "other"], "azp": "other"}}, "issued to another client"),
    "authorized party": ({"claims": {"azp": "other"}}, "issued to another client"),
    "nonce": ({"claims": {"nonce": "x" * 43}}, "another log-in"),
    "no nonce": ({"claims": {"nonce": None}}, "another log-in"),
    "nonce of another type": ({"claims": {"nonce": 1}}, "another log-in"),
    "expired": ({"claims": {"exp": -61}}, "expired"),
    "no end": ({"claims": {"exp": None}}, "no valid time in `exp`"),
    "an end that is true": ({"claims": {"exp": True}}, "no valid time in `exp`"),
    "an end as text": ({"claims": {"exp": "9999999999"}}, "no valid time in `exp`"),
    "future": ({"claims": {"iat": 120}}, "future"),
    "not yet": ({"claims": {"nbf": 120}}, "future"),
    "authenticated in the future": ({"claims": {"auth_time": 120}}, "future"),
    "no beginning": ({"claims": {"iat": None}}, "no valid time in `iat`"),
    "no subject": ({"claims": {"sub": None}}, "no subject"),
    "empty subject": ({"claims": {"sub": ""}}, "no subject"),
    "long subject": ({"claims": {"sub": "x" * 256}}, "no subject"),
    "subject with a line": ({"claims": {"sub": "ann\n"}}, "no subject"),
    "subject beyond ASCII": ({"claims": {"sub": "ann\u0430"}}, "no subject"),
    "key of somebody else": ({"key": "other"}, "signature"),
    "key that is not published": ({"header": {"kid": "gone"}}, "does not publish"),
    "key of somebody else, not named": ({"key": "other", "header": {"kid": None}}, "signature"),
    "algorithm none": ({"algorithm": "none"}, "does not publish"),
    "signed with the client's secret": ({"key": "secret", "header": {"kid": "one"}}, "signature"),
    "another algorithm of the key": ({"algorithm": "RS384"}, "signature"),
    "another padding of the key": ({"algorithm": "PS256"}, "signature"),
    "critical extension": ({"header": {"crit": ["x"], "x": 1}}, "critical"),
    "not signed at all": ({"token": "e30"}, ""),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_invalid_id_token_is_refused_with_the_reason(firm: CompanyLogin, browser: OidcBrowser, name: str) -> None:
    forgery, reason = FORGERIES[name]
    forge(firm, forgery)
    assert reason in refusal(browser.log_in())
    assert browser.cookies == {}
    assert browser.request("GET", "/session").json["who"] is None


def forge(firm: CompanyLogin, forgery: dict[str, Any]) -> None:
    """Make the issuer forge an ID token. Times in claims are relative to now."""
    claims = {
        name: int(time.time()) + value if type(value) is int and name != "nonce" else value
        for name, value in forgery.get("claims", {}).items()
    }
    if claims.get("iss") == "SLASH":
        claims["iss"] = f"{firm.issuer.issuer}/"
    firm.issuer.forge(**{**forgery, **({"claims": claims} if claims else {}), "secret": SECRET})


@pytest.mark.parametrize(
    "forgery",
    [
        {"algorithm": "ES256"},
        {"header": {"kid": None}},
        {"claims": {"exp": -50, "iat": -HOUR}},
        {"claims": {"iat": 50}},
        {"claims": {"aud": ["basic", "other"], "azp": "basic"}},
        {"header": {"typ": "JWT", "x5t": "x" * 300, "more": {"a": 1}}},
    ],
    ids=str,
)
def test_valid_variants_of_an_id_token_are_accepted(
    firm: CompanyLogin, browser: OidcBrowser, forgery: dict[str, Any]
) -> None:
    forge(firm, forgery)
    assert browser.log_in().status == 201


def test_redirect_without_the_cookie_of_its_log_in_is_refused(browser: OidcBrowser, firm: CompanyLogin) -> None:
    """Sidekey also refuses a second redirect with the same code."""
    url = browser.start()
    assert browser.request("GET", "/session").status == 200
    redirect = browser.visit(url)
    other = firm.browser(browser.address)
    assert "another browser" in refusal(other.finish(redirect))
    other.start()
    assert "another browser" in refusal(other.finish(redirect))
    for wrong in ({**redirect, "state": ""}, {**redirect, "state": "\ud83d\ude00"}):
        again = firm.browser(browser.address)
        again.cookies = dict(browser.cookies)
        assert "another browser" in refusal(again.finish(wrong))
        assert again.cookies == {}
    for name in ("code", "state", "iss"):
        again = firm.browser(browser.address)
        again.cookies = dict(browser.cookies)
        assert again.finish({**redirect, name: "\ud800"}).status in (400, 401, 422), name
    attempt = dict(browser.cookies)
    assert browser.finish(redirect).status == 201
    other.cookies = attempt
    assert "did not accept the code" in refusal(other.finish(redirect))


@pytest.mark.parametrize("iss", [None, "https://evil.example", ""], ids=repr)
def test_code_of_another_issuer_is_not_redeemed(firm: CompanyLogin, browser: OidcBrowser, iss: str | None) -> None:
    """The issuer sends `iss` in redirects (RFC 9207)."""
    redirect: dict[str, Any] = browser.visit(browser.start())
    redeemed = firm.issuer.fetched()["token"]
    assert "not from the issuer" in refusal(browser.finish({**redirect, "iss": iss}))
    assert firm.issuer.fetched()["token"] == redeemed


def test_cookie_lasts_five_minutes_and_needs_the_console_header(firm: CompanyLogin, browser: OidcBrowser) -> None:
    response = browser.request("POST", "/session/oidc/start", {})
    value = browser.cookies["__Host-sidekey-oidc"]
    assert response.headers.get_all("Set-Cookie") == [
        f"__Host-sidekey-oidc={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=300; Secure"
    ]
    for path, body in (("/session/oidc/start", {}), ("/session/oidc", {"code": "x", "state": "x"})):
        response = Api(firm.child.admin_port).request("POST", path, body, headers={"Authorization": ""})
        assert (response.status, response.code) == (403, "forbidden")


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("admins", "admin"),
        (["admins", "marketing"], "admin"),
        (["marketing", "readers"], "viewer"),
        (["marketing", "events"], "sender"),
    ],
    ids=str,
)
def test_claim_decides_role_and_presets(firm: CompanyLogin, browser: OidcBrowser, groups: Any, role: str) -> None:
    """A sender has the presets of all its groups, and other roles have none."""
    firm.issuer.person({**ANN, "groups": groups})
    body = browser.log_in().json
    presets = ["hook-of-a-file", "other-of-a-file"] if role == "sender" else None
    assert (body["role"], body["presets"]) == (role, presets)


@pytest.mark.parametrize("groups", [None, [], ["unknown"], 7, {"admins": True}, [["admins"]], "Admins"], ids=str)
def test_person_without_a_role_is_refused(firm: CompanyLogin, browser: OidcBrowser, groups: Any) -> None:
    firm.issuer.person({**ANN, "groups": groups})
    refusal(browser.log_in(), "no_role")


@pytest.mark.parametrize(
    ("claims", "label"),
    [
        ({"name": "\u202eAnn\u2066\x00\n Roe\u200f ", "email": "x"}, "Ann Roe"),
        ({"name": "x" * 500}, "x" * 100),
        ({"name": "\u202e", "email": "ann@example.com"}, "ann@example.com"),
        ({"name": ["Ann"], "email": None}, ""),
        ({"name": "ops"}, "ops"),
    ],
    ids=str,
)
def test_label_has_no_formatting(firm: CompanyLogin, browser: OidcBrowser, claims: dict[str, Any], label: str) -> None:
    forge(firm, {"claims": claims})
    body = browser.log_in().json
    assert body["label"] == label
    assert body["name"] == body["identity"] == f"oidc:{firm.issuer.issuer}#ann-8f1c"


def test_creating_a_token_needs_a_fresh_log_in(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """Single sign-on would confirm it for an unattended browser, so `auth_time` counts instead of the session."""
    firm.issuer.person({**ANN, "groups": "admins"})
    token = {"name": "by-ann", "role": "viewer"}
    for auth_time in (None, -700):
        forge(firm, {"claims": {"auth_time": auth_time}})
        assert browser.log_in().status == 201
        assert browser.request("POST", "/tokens", token).code == "login_again"
        assert browser.request("POST", "/tokens", {**token, "own_token": "sidekey_guess"}).code == "login_again"
    forge(firm, {"claims": {"auth_time": -500}})
    url = browser.start(again=True)
    assert "max_age=0" in url
    assert browser.finish(browser.visit(url)).status == 201
    response = browser.request("POST", "/tokens", token)
    assert response.status == 201, response
    assert Api(firm.child.admin_port).get("/tokens/by-ann")["created_by"] == f"oidc:{firm.issuer.issuer}#ann-8f1c"


def test_admin_lists_and_ends_sessions(firm: CompanyLogin, browser: OidcBrowser) -> None:
    firm.issuer.person({**ANN, "sub": "under-watch"})
    browser.log_in()
    admin = firm.browser(browser.address)
    firm.issuer.person({**ANN, "sub": "boss", "name": "Boss", "groups": "admins"})
    admin.log_in()
    items = admin.request("GET", "/sessions").json["items"]
    own = [item for item in items if item["current"]]
    assert [item["label"] for item in own] == ["Boss"]
    newest = next(item for item in items if item["identity"].endswith("#under-watch"))
    assert newest["role"] == "editor"
    assert newest["id"] not in str(browser.cookies)
    assert browser.request("GET", "/sessions").code == "forbidden"
    assert browser.request("DELETE", f"/sessions/{own[0]['id']}").code == "forbidden"
    assert admin.request("DELETE", f"/sessions/{newest['id']}").status == 204
    assert browser.request("GET", "/whoami").code == "unauthenticated"
    assert admin.request("DELETE", f"/sessions/{newest['id']}").code == "not_found"
    for wrong in ("x", newest["id"][:31], f"{newest['id']}0"):
        assert admin.request("DELETE", f"/sessions/{wrong}").code == "not_found"
    entries = admin.request("GET", "/audit").json["items"]
    audited = {"action": "end", "object": "session", "name": newest["identity"], "who": own[0]["identity"]}
    assert any(entry.items() >= audited.items() for entry in entries)


def test_change_of_the_roles_in_the_config_ends_sessions(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """A person who loses a role must not keep the role until the session ends."""
    token = firm.browser(browser.address)
    assert token.request("POST", "/session", {"token": Api(1).token}).status == 201
    browser.log_in()
    before = firm.child.config.read_text()
    firm.rewrite({**ROLES, "editors": "viewer"}, admin="behind_tls: true, ")
    try:
        wait_until(lambda: browser.request("GET", "/whoami").status == 401)
        assert token.request("GET", "/whoami").status == 200
        assert browser.log_in().json["role"] == "viewer"
    finally:
        firm.child.rewrite(before)
        wait_until(lambda: browser.request("GET", "/whoami").status == 401)


def test_person_changes_and_sends_under_the_identity(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """The author of rows and audit entries can be an identity."""
    firm.issuer.person({**ANN, "groups": "admins"})
    who = browser.log_in().json["identity"]
    created = browser.request("POST", "/integrations", {"id": "by-ann", **basic(1)})
    assert (created.status, created.json["updated_by"]) == (201, who), created
    sent = browser.request(
        "POST", "/presets/hook-of-a-file/sends", {"parameters": {"user": "x"}}, key="a-key-of-ann-0001"
    )
    assert sent.status == 200, sent
    assert (sent.json["who"], sent.json["label"]) == (who, "Ann Roe")
    items = browser.request("GET", f"/sends?who={quote(who, safe='')}").json["items"]
    assert [item["key"] for item in items] == ["a-key-of-ann-0001"]
    audited = {item["action"] for item in browser.request("GET", "/audit").json["items"] if item["who"] == who}
    assert {"login", "create", "send"} <= audited


def warnings(firm: CompanyLogin) -> int:
    return sum("began in another browser" in line for line in firm.child.lines)


def test_log_ins_are_limited_by_address(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """Redirects that Sidekey refuses without a request to the issuer do not count."""
    script = firm.browser("192.0.2.66")
    earlier, began = warnings(firm), time.monotonic()
    for number in range(20):
        other = firm.browser(f"192.0.2.{number}")
        other.start()
        assert other.finish({"code": "x", "state": "wrong"}).code == "oidc_failed"
        refusal(script.finish({"code": "x", "state": "x"}))
    # Sidekey logs each reason at most every ten seconds, because anybody could fill the log.
    assert warnings(firm) - earlier <= 1 + (time.monotonic() - began) / 10
    codes = []
    for _ in range(12):
        url = script.start()
        state = parse_qs(urlsplit(url).query)["state"][0]
        response = script.finish({"code": "guess", "state": state, "iss": firm.issuer.issuer})
        codes.append(response.code)
    assert codes == ["oidc_failed"] * 10 + ["too_many"] * 2
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert browser.log_in().status == 201


def test_ipv6_network_counts_as_one_address(firm: CompanyLogin, browser: OidcBrowser) -> None:
    """A host can use any address of its network. An IPv4-mapped address counts as IPv4."""

    def guess(address: str) -> str:
        script = firm.browser(address)
        state = parse_qs(urlsplit(script.start()).query)["state"][0]
        return str(script.finish({"code": "guess", "state": state, "iss": firm.issuer.issuer}).code)

    codes = [guess(f"2001:db8:7:7::{number:x}") for number in range(11)]
    assert codes == ["oidc_failed"] * 10 + ["too_many"]
    assert guess("2001:db8:7:8::1") == "oidc_failed"
    codes = [guess(f"::ffff:203.0.113.{number}") for number in range(200, 211)]
    assert codes == ["oidc_failed"] * 11


def test_another_process_can_finish_a_log_in(firm: CompanyLogin, browser: OidcBrowser, tmp_path: Path) -> None:
    """The cookie contains the whole state of a log-in."""
    for file in firm.folder.iterdir():
        if file.suffix == "" and file.is_file():
            (tmp_path / file.name).symlink_to(file)
    other = replace(firm, child=SidekeyProcess("", tmp_path))
    port = f":{other.child.admin_port}/ui"
    written = text(other, admin="behind_tls: true, ").replace(port, f":{firm.child.admin_port}/ui")
    other.child.config.write_text(written.replace("path: store.db", f"path: {firm.folder}/store.db"))
    with other.child:
        redirect = browser.visit(browser.start())
        elsewhere = OidcBrowser(other, browser.address, browser.cookies)
        response = elsewhere.finish(redirect)
        assert response.status == 201, response
        assert browser.request("GET", "/whoami").json == response.json


def test_unknown_key_is_fetched_once_in_30_seconds(tmp_path: Path, ca: Authority) -> None:
    """An unpublished key must not cause a request to the issuer for each log-in."""
    with company(tmp_path, ca) as firm:
        firm.issuer.person(ANN)
        for _ in range(2):
            assert firm.browser().log_in().status == 201
        assert firm.issuer.fetched()["keys"] == 1
        firm.issuer.forge(keys="rotated")
        for _ in range(2):
            assert firm.browser().log_in().status == 201
        assert firm.issuer.fetched()["keys"] == 2
        firm.issuer.forge(header={"kid": "gone"})
        for _ in range(3):
            refusal(firm.browser().log_in())
        assert firm.issuer.fetched() == {"discovery": 2, "keys": 2, "token": 7}


def test_address_has_at_most_four_log_ins_in_progress(firm: CompanyLogin) -> None:
    """The fifth waits five seconds. Log-ins from other addresses do not wait."""
    browsers = [firm.browser("192.0.2.200") for _ in range(5)]
    redirects = [browser.visit(browser.start()) for browser in browsers]
    other = firm.browser("192.0.2.201")
    redirect = other.visit(other.start())
    with ThreadPoolExecutor(6) as pool, firm.issuer.holding() as held:
        finishing = [pool.submit(person.finish, redirect) for person, redirect in zip(browsers, redirects, strict=True)]
        wait_until(lambda: held() == 4)
        elsewhere = pool.submit(other.finish, redirect)
        wait_until(lambda: held() == 5)
        finished = next(future for future in as_completed(finishing))
        assert finished.result().code == "too_many"
    assert sorted(future.result().status for future in finishing) == [201] * 4 + [429]
    assert elsewhere.result().status == 201


def test_people_log_in_without_a_store(tmp_path: Path, ca: Authority) -> None:
    """Sessions are in memory, and end when the roles in the config change."""
    with company(tmp_path, ca, has_store=False) as firm:
        firm.issuer.person({**ANN, "groups": "admins"})
        browser = firm.browser()
        assert browser.log_in().json["role"] == "admin"
        assert browser.request("GET", "/session").json["store"] == "absent"
        (session,) = browser.request("GET", "/sessions").json["items"]
        assert (session["label"], session["current"]) == ("Ann Roe", True)
        assert browser.request("POST", "/tokens", {"name": "x", "role": "viewer"}).code == "store_required"
        firm.rewrite({**ROLES, "admins": "viewer"})
        wait_until(lambda: browser.request("GET", "/whoami").status == 401)
        assert not (tmp_path / "store.db").exists()


def test_failing_issuer_is_called_once_in_ten_seconds(tmp_path: Path, ca: Authority) -> None:
    """The console and log-ins with tokens still work. Session and metric say that the issuer does not."""
    with company(tmp_path, ca) as firm:
        up = partial(series, name="sidekey_oidc_up")
        wait_until(lambda: up(get(firm.child.admin_port, "/metrics").body) == [({}, 1.0)])
        firm.issuer.forge(down=True)
        firm.rewrite({**ROLES, "others": "viewer"})
        start = partial(firm.browser().request, "POST", "/session/oidc/start", {})
        wait_until(lambda: start().status == 503)
        fetched = firm.issuer.fetched()["discovery"]
        for _ in range(5):
            response = start()
            assert (response.status, response.code, response.headers["Retry-After"]) == (503, "oidc_unavailable", "10")
            assert "discovery responded 503" in response.json["detail"]
        assert firm.issuer.fetched()["discovery"] == fetched
        assert firm.browser().request("POST", "/session", {"token": Api(1).token}).status == 201
        session = firm.browser().request("GET", "/session").json
        assert (session["oidc"], session["oidc_problem"]) == (False, response.json["detail"])
        assert up(get(firm.child.admin_port, "/metrics").body) == [({}, 0.0)]


def test_issuer_that_is_down_at_the_start_is_known_before_a_log_in(tmp_path: Path, ca: Authority) -> None:
    with company(tmp_path, ca, down=True) as firm:
        session = partial(firm.browser().request, "GET", "/session")
        wait_until(lambda: session().json["oidc_problem"] is not None)
        assert session().json["oidc"] is False


def test_invalid_discovery_document_is_refused(tmp_path: Path, ca: Authority) -> None:
    with company(tmp_path, ca) as firm:
        for number, (name, value, reason) in enumerate(
            [
                ("issuer", "https://evil.example", "another `issuer`"),
                ("authorization_endpoint", "http://127.0.0.1/auth", "no https URL in `authorization_endpoint`"),
                ("token_endpoint", "http://127.0.0.1/token", "no https URL in `token_endpoint`"),
                ("jwks_uri", "http://127.0.0.1/jwks", "no https URL in `jwks_uri`"),
                ("jwks_uri", None, "no https URL in `jwks_uri`"),
            ]
        ):
            firm.issuer.forge(discovery={name: value})
            # After a change of the roles, Sidekey fetches the document at once.
            firm.rewrite({**ROLES, f"group-{number}": "viewer"})
            start = partial(firm.browser().request, "POST", "/session/oidc/start", {})
            wait_until(lambda start=start, reason=reason: reason in start().json.get("detail", ""))
            assert start().code == "oidc_unavailable"


def test_hanging_token_endpoints_do_not_delay_log_ins(tmp_path: Path, ca: Authority) -> None:
    """Log-ins have a separate limit of concurrent calls."""
    with ExitStack() as stack:
        hanging = [stack.enter_context(create_server(("127.0.0.1", 0), backlog=256)).getsockname()[1] for _ in range(2)]
        names = [f"hangs-{number}" for number in range(256)]
        integrations = "".join(
            f"  {name}: {{auth: {{type: oauth2, token_endpoint: 'http://127.0.0.1:{hanging[number % 2]}/token', "
            f"client_id: id, client_secret: {{insecure_value: secret}}}}}}\n"
            for number, name in enumerate(names)
        )
        firm = stack.enter_context(company(tmp_path, ca, more=OF_A_FILE + integrations))
        firm.issuer.person(ANN)

        def in_flight() -> float:
            ((_, count),) = series(get(firm.child.admin_port, "/metrics").body, "sidekey_requests_in_flight")
            return count

        for name in names:
            waiting = stack.enter_context(create_connection(("127.0.0.1", firm.child.proxy_port)))
            head = f"GET /i/{name}/x HTTP/1.1\r\nHost: localhost\r\nSidekey-Token: the-token-of-a-file\r\n\r\n"
            waiting.sendall(head.encode())
        wait_until(lambda: in_flight() == len(names))
        assert firm.browser().log_in().status == 201
        assert in_flight() == len(names)
