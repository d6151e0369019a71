"""Company log-ins in Chromium: at the start, on an open page, and to confirm a change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import expect

from support.browser import Chromium
from support.company_login import CompanyLogin, company
from support.http_get import wait_until
from support.private_ca import Authority
from support.ui import Console, ConsoleSetup, ConsoleUpstream, assert_accessible

ANN = {"sub": "ann-8f1c", "name": "Ann Roe", "groups": ["admins"]}
WHO = "Ann Roe (company account, …8f1c) (admin)"
COMPANY = "Log in with your company account"


@pytest.fixture(scope="module")
def company_process(tmp_path_factory: pytest.TempPathFactory, ca: Authority) -> Iterator[CompanyLogin]:
    with company(tmp_path_factory.mktemp("firm"), ca) as process:
        yield process


@pytest.fixture
def console(company_process: CompanyLogin, browser: Chromium) -> Iterator[Console]:
    opened = Console(ConsoleSetup(company_process.child, ConsoleUpstream()), browser)
    opened.issuer = company_process.issuer.issuer
    company_process.issuer.person(ANN)
    yield opened
    opened.close()
    company_process.issuer.forge()


def test_company_log_in_returns_to_the_requested_page(console: Console, company_process: CompanyLogin) -> None:
    """Neither the address bar nor the history keeps code and state."""
    company_process.issuer.person(None)
    page = console.open(None, "/login?next=%2Fsend%3Fq%3Dhook")
    page.get_by_text("or with a token").wait_for()
    assert_accessible(page)
    page.get_by_role("button", name=COMPANY).click()
    page.get_by_label("User").fill("ann-8f1c")
    company_process.issuer.person(ANN)
    page.get_by_role("button", name="Go on").click()
    page.get_by_text(WHO).wait_for()
    page.wait_for_url("**/ui/send?q=hook")
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{console.base}/ui/callback")
    page.wait_for_url("**/ui/integrations")
    page.reload()
    page.get_by_text(WHO).wait_for()
    (cookie,) = [cookie for cookie in page.context.cookies() if "sidekey" in cookie["name"]]
    assert cookie["name"] == "sidekey-ui"
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name=COMPANY).wait_for()


def test_refused_log_in_says_what_to_do(console: Console, company_process: CompanyLogin) -> None:
    company_process.issuer.person({**ANN, "groups": []})
    page = console.open(None, "/login")
    page.get_by_role("button", name=COMPANY).click()
    page.get_by_text("Your account may not use Sidekey. Ask an admin for a role.").wait_for()
    page.wait_for_url("**/ui/callback")
    assert_accessible(page)
    page.get_by_role("link", name="Start again").click()
    page.get_by_role("button", name=COMPANY).wait_for()
    page.goto(f"{console.base}/ui/callback?error=access_denied&state=x")
    page.get_by_text("The company log-in failed: the company did not let you in (access_denied).").wait_for()
    page.goto(f"{console.base}/ui/callback?error=%3Cb%3E&state=x")
    page.get_by_text("the company did not let you in.").wait_for()
    page.goto(f"{console.base}/ui/callback")
    page.get_by_text("this page needs the company's redirect: start again").wait_for()
    page.goto(f"{console.base}/ui/callback?code=x&state=x")
    page.get_by_text("it took too long, or began in another browser").wait_for()


def test_log_in_page_says_why_the_company_log_in_does_not_work(console: Console, company_process: CompanyLogin) -> None:
    """It offers the token, and works again with the issuer."""
    company_process.issuer.forge(down=True)
    start = partial(company_process.browser().request, "POST", "/session/oidc/start", {})
    # Another config makes Sidekey fetch the metadata again.
    company_process.rewrite({"admins": "admin"})
    wait_until(lambda: start().status == 503)
    page = console.open(None, "/login")
    alert = page.get_by_role("alert").filter(has_text="The company log-in does not work now.")
    alert.get_by_text("discovery responded 503").wait_for()
    alert.get_by_text("Log in with a token.").wait_for()
    assert page.get_by_role("button", name=COMPANY).count() == 0
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    assert_accessible(page)
    company_process.issuer.forge()
    company_process.rewrite()
    wait_until(lambda: start().status == 200)
    page.reload()
    page.get_by_role("button", name=COMPANY).wait_for()
    assert alert.count() == 0


def call_api(page: object, call: str) -> None:
    """Call the API with the page's modules, and keep the promise."""
    page.evaluate(  # type: ignore[attr-defined]
        """async (call) => {
            const main = document.querySelector("script[type=module]").src;
            const { get } = await import(main.replace("main.js", "api.js"));
            const { confirmAndCall } = await import(main.replace("main.js", "session.js"));
            window.repeated = call === "confirm" ? confirmAndCall("It changes.", async (own) => own) : get("/whoami");
        }""",
        call,
    )


def test_session_is_confirmed_and_renewed_and_ends_with_another_person(
    console: Console, company_process: CompanyLogin
) -> None:
    """The page below a dialog stays, and its call is repeated, unless another person logs in."""
    page = console.open(None, "/login")
    page.get_by_role("button", name=COMPANY).click()
    page.get_by_text(WHO).wait_for()
    page.evaluate("window.typed = 'still here'")

    # The issuer asks the person again, although it knows them.
    call_api(page, "confirm")
    dialog = page.get_by_role("dialog", name="Confirm")
    dialog.get_by_text("Confirm it is you.").wait_for()
    assert_accessible(page)
    company_process.issuer.person(None)
    with page.expect_popup() as popup:
        dialog.get_by_role("button", name="Log in again").click()
    popup.value.get_by_label("User").fill("ann-8f1c")
    company_process.issuer.person(ANN)
    popup.value.get_by_role("button", name="Go on").click()
    dialog.wait_for(state="hidden")
    assert page.evaluate("window.repeated.then(JSON.stringify)") == "{}"

    page.context.clear_cookies(name="sidekey-ui")
    call_api(page, "whoami")
    dialog = page.get_by_role("dialog", name="Log in again")
    with page.expect_popup() as popup:
        dialog.get_by_role("button", name=COMPANY).click()
    popup.value.get_by_text("Logged in. You can close this window.").wait_for()
    dialog.wait_for(state="hidden")
    assert page.evaluate("window.repeated.then((result) => result.body.label)") == "Ann Roe"
    assert page.evaluate("window.typed") == "still here"

    page.context.clear_cookies()
    company_process.issuer.person({**ANN, "sub": "ben-0001", "name": "Ann Roe"})
    call_api(page, "whoami")
    with page.expect_popup():
        page.get_by_role("dialog").get_by_role("button", name=COMPANY).click()
    page.get_by_text("Somebody else has logged in, so what was typed here is gone.").wait_for()
    page.get_by_text("Ann Roe (company account, …0001) (admin)").wait_for()
