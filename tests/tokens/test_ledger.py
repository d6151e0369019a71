"""The origin of tokens, and the ledger of a process that must not request shared tokens."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Trust
from sidekey.tokens.ledger import Chain, ChainState, NoLedger, SharedToken, TokenOrigin, Unavailable, origin_of
from support.tokens import LINEAGE, TRAITS, Endpoint, Kind

CHAIN = Chain("file:crm", "canary")
TOKEN = SharedToken("n1", "canary", "canary", Grant((("Authorization", "canary"),)), 1.0, 2.0)


@pytest.mark.parametrize("secret", [CHAIN, TOKEN, ChainState("canary", TOKEN)], ids=["chain", "token", "left"])
def test_shared_state_is_redacted(secret: object) -> None:
    assert "canary" not in repr(secret)


@pytest.mark.parametrize("secret", [TOKEN, ChainState("canary", TOKEN)], ids=["token", "left"])
def test_shared_state_is_not_pickled(secret: object) -> None:
    with pytest.raises(TypeError, match="holds secrets"):
        pickle.dumps(secret)


@pytest.mark.parametrize("rotates", [False, True])
async def test_no_ledger_grants_no_lease(rotates: bool) -> None:
    with pytest.raises(Unavailable, match="ask another"):
        await NoLedger("ask another").acquire(CHAIN, rotates=rotates)


IDENTITY = ClientIdentity(b"chain", b"key", "f" * 64, 0.0, 1e12, "CN=a", "CN=b")
HERE = TokenOrigin(LINEAGE, ("mozilla", ""), "")


def secrets(credential: Credential | None) -> SecretLoader:
    """Load a credential, or unreadable secrets."""

    def read() -> Credential:
        if credential is None:
            raise SecretUnreadable(((("auth",), "does not exist"),))
        return credential

    loader = SecretLoader(read)
    loader.load()
    return loader


def certificate(identity: ClientIdentity | None) -> CertificateLoader:
    """Return a loader after its first reading."""
    loader = CertificateLoader(lambda _, __: CertificateResult(identity))
    loader.load(1.0)
    return loader


CRM = Integration("crm", "oauth2", Policy(), None, secrets(Kind(Endpoint())), TRAITS)


@pytest.mark.parametrize(
    ("other", "client", "token", "proof"),
    [
        (HERE, True, True, True),
        (HERE._replace(lineage=replace(LINEAGE, proof=("x",))), True, True, False),
        (HERE._replace(lineage=replace(LINEAGE, token=("x",))), True, False, True),
        (HERE._replace(lineage=replace(LINEAGE, client=("x",))), False, False, True),
        (HERE._replace(trust=("file", "digest")), False, False, True),
        (HERE._replace(certificate="x"), False, False, True),
        (HERE._replace(destinations=("x",)), False, False, True),
    ],
)
def test_change_keeps_client_token_or_secret(other: TokenOrigin, client: bool, token: bool, proof: bool) -> None:
    """The same token requires the same client; the secret is compared separately."""
    assert (HERE.same_client(other), HERE.same_token(other), HERE.same_secret(other)) == (client, token, proof)


def test_token_stays_valid_for_a_stricter_destination() -> None:
    """Switching redaction on keeps the token, switching it off does not."""
    plain, redacting = HERE._replace(destinations=("plain",)), HERE._replace(destinations=("redacting", "plain"))
    assert (redacting.same_client(plain), plain.same_client(redacting)) == (True, False)


def test_origin_has_lineage_trust_certificate_and_destinations() -> None:
    """The content of CAs and certificate counts, not their path."""
    trust = Trust("file", "/ca.pem", "digest", "PEM")
    assert origin_of(CRM) == TokenOrigin(LINEAGE, ("mozilla", ""), "")
    result = origin_of(replace(CRM, egress=Egress(trust), certificate=certificate(IDENTITY)))
    assert result == TokenOrigin(LINEAGE, ("file", "digest"), IDENTITY.fingerprint)
    stored = origin_of(replace(CRM, destinations=("a", "b")))
    assert stored == TokenOrigin(LINEAGE, ("mozilla", ""), "", ("a", "b"))


@pytest.mark.parametrize(
    "changed",
    [
        replace(CRM, secrets=secrets(None)),
        replace(CRM, secrets=secrets(FixedCredential(Grant()))),
        replace(CRM, egress=Egress(Trust("file", "/ca.pem"))),
        replace(CRM, certificate=certificate(None)),
    ],
    ids=["secret", "kind", "ca", "certificate"],
)
def test_origin_is_unknown_while_something_is_unreadable(changed: Integration) -> None:
    """A fixed credential has none, either."""
    assert origin_of(changed) is None
