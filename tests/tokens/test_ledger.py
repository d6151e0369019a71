"""tokens/ledger.py: what is shared shows no secret, and a process that must not ask has no turn."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant, Lineage
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Trust
from sidekey.tokens.ledger import Chain, NoLedger, SharedToken, TokenOrigin, TurnState, Unavailable, origin_of
from support.tokens import LINEAGE, TRAITS, Endpoint, Kind

CHAIN = Chain("file:crm", "canary")
TOKEN = SharedToken("n1", "canary", "canary", Grant((("Authorization", "canary"),)), 1.0, 2.0)


@pytest.mark.parametrize("secret", [CHAIN, TOKEN, TurnState("canary", TOKEN)], ids=["chain", "token", "left"])
def test_what_is_shared_shows_no_secret(secret: object) -> None:
    assert "canary" not in repr(secret)


@pytest.mark.parametrize("secret", [TOKEN, TurnState("canary", TOKEN)], ids=["token", "left"])
def test_what_is_shared_is_not_pickled(secret: object) -> None:
    with pytest.raises(TypeError, match="holds secrets"):
        pickle.dumps(secret)


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_process_that_must_not_ask_has_no_turn(rotates: bool) -> None:
    with pytest.raises(Unavailable, match="ask another"):
        await NoLedger("ask another").acquire(CHAIN, rotates=rotates)


IDENTITY = ClientIdentity(b"chain", b"key", "f" * 64, 0.0, 1e12, "CN=a", "CN=b")
HERE = TokenOrigin(LINEAGE, ("mozilla", ""), "")


def secrets(credential: Credential | None) -> SecretLoader:
    """What is read of an integration's secrets; None: nothing can be."""

    def read() -> Credential:
        if credential is None:
            raise SecretUnreadable(((("auth",), "does not exist"),))
        return credential

    made = SecretLoader(read)
    made.load()
    return made


def certificate(identity: ClientIdentity | None) -> CertificateLoader:
    """The loader of a client certificate, after its first reading."""
    made = CertificateLoader(lambda _, __: CertificateResult(identity))
    made.load(1.0)
    return made


CRM = Integration("crm", "oauth2", Policy(), None, secrets(Kind(Endpoint())), TRAITS)


@pytest.mark.parametrize(
    ("other", "client", "token", "proof"),
    [
        (HERE, True, True, True),
        (HERE._replace(kind=replace(LINEAGE, proof=("x",))), True, True, False),
        (HERE._replace(kind=replace(LINEAGE, token=("x",))), True, False, True),
        (HERE._replace(kind=replace(LINEAGE, client=("x",))), False, False, True),
        (HERE._replace(trust=("file", "digest")), False, False, True),
        (HERE._replace(certificate="x"), False, False, True),
        (HERE._replace(destinations=("x",)), False, False, True),
    ],
)
def test_change_keeps_client_token_or_secret(other: TokenOrigin, client: bool, token: bool, proof: bool) -> None:
    """The same token needs the same client; the secret is compared by itself."""
    assert (HERE.same_client(other), HERE.same_token(other), HERE.same_secret(other)) == (client, token, proof)


def test_a_token_goes_on_to_every_destination_that_its_own_may_become() -> None:
    """As where redaction is switched on, and not where it is switched off."""
    plain, redacting = HERE._replace(destinations=("plain",)), HERE._replace(destinations=("redacting", "plain"))
    assert (redacting.same_client(plain), plain.same_client(redacting)) == (True, False)


def test_it_is_what_the_kind_says_and_how_its_calls_go() -> None:
    """Content counts, not where it is."""
    trust = Trust("file", "/ca.pem", "digest", "PEM")
    assert origin_of(CRM) == TokenOrigin(LINEAGE, ("mozilla", ""), "")
    found = origin_of(replace(CRM, trust=trust, certificate=certificate(IDENTITY)))
    assert found == TokenOrigin(LINEAGE, ("file", "digest"), IDENTITY.fingerprint)
    stored = origin_of(replace(CRM, destinations=("a", "b")))
    assert stored == TokenOrigin(LINEAGE, ("mozilla", ""), "", ("a", "b"))


@pytest.mark.parametrize(
    "changed",
    [
        replace(CRM, secrets=secrets(None)),
        replace(CRM, secrets=secrets(FixedCredential(Grant()))),
        replace(CRM, trust=Trust("file", "/ca.pem")),
        replace(CRM, certificate=certificate(None)),
    ],
    ids=["secret", "kind", "ca", "certificate"],
)
def test_it_is_not_known_while_something_cannot_be_read(changed: Integration) -> None:
    """Nor has a kind that needs no call one."""
    assert origin_of(changed) is None


def test_it_shows_no_secret() -> None:
    """Whatever the kind compares."""
    assert "hunter2" not in repr(TokenOrigin(Lineage(("hunter2",), ("hunter2",), ("hunter2",)), ("mozilla", ""), ""))
