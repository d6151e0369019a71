"""Base classes of kinds: reading inputs, keeping secrets out of texts and pickles, and supplementing grants."""

import pickle
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from pkgutil import walk_packages
from typing import Literal

import pytest
from joserfc.jwk import RSAKey
from pydantic import BaseModel

from sidekey import credentials
from sidekey.credentials import jose
from sidekey.credentials.aws.settings import WebIdentitySettings
from sidekey.credentials.aws.sigv4 import AccessKey, CredentialScope, SigV4Signer
from sidekey.credentials.aws.sts import WebIdentity, WebIdentityCredential, _Leaves
from sidekey.credentials.base import (
    Attempt,
    Call,
    CallError,
    Credential,
    CredentialTraits,
    Destinations,
    FixedCredential,
    Grant,
    InjectionPoints,
    Issued,
    KindSettings,
    Lineage,
    PartSettings,
    Reply,
    SecretInput,
    Supplemented,
    SupplementSettings,
)
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import PemBlock, PemParts
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.certificates.validate import CertificateCheck, CertificateInput, _Checker
from sidekey.credentials.commands import Command
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Entered, Keys, Reference, Secret, Section
from sidekey.credentials.headers import HeadersSettings
from sidekey.credentials.injection import AddedSettings, InjectedSettings
from sidekey.credentials.oauth2 import assertion
from sidekey.credentials.oauth2.assertion import AssertionSettings, KeyAssertionSettings
from sidekey.credentials.oauth2.client_authentication import Client, ClientProof
from sidekey.credentials.oauth2.grant_types import JwtBearer, Password, RefreshToken, TokenExchange
from sidekey.credentials.oauth2.settings import OAuth2Settings
from sidekey.credentials.oauth2.token_request import TokenRequest, TokenRequestSettings
from sidekey.credentials.oauth2.token_response import Token
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.session import Identity, LoginRequest, LoginSettings, SessionSettings
from sidekey.credentials.signatures.keys import Hmac, load_key
from sidekey.credentials.signatures.rfc9421 import MessageSigner, SignatureParameters
from sidekey.credentials.signatures.schemes import SCHEMES
from sidekey.credentials.signatures.settings import SignatureSectionSettings
from sidekey.credentials.signatures.template import TemplateValues
from sidekey.credentials.token_file import FileToken
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.secret_loader import SecretLoader
from support import oauth
from support.drive_kinds import credential_of, settings_of
from support.outgoing_requests import UNIQUE, outgoing, private_key

SECRET = {"insecure_value": "hunter2"}
PEM = {"insecure_value": "-----BEGIN hunter2-----"}
HEADERS = (("Authorization", "hunter2"),)
GRANT = Grant(headers=HEADERS, query=(("key", "hunter2"),), body=(("key", "hunter2"),))
OAUTH2 = {"type": "oauth2", "token_endpoint": "https://auth.example.com/token", "client_id": "id"}
SIGNING = {**OAUTH2, "grant": {"type": "jwt_bearer", "private_key": PEM, "claims": {"a": SECRET}}}
GRANTS = (
    {"type": "refresh_token", "refresh_token": SECRET},
    {"type": "password", "username": "u", "password": SECRET},
    {"type": "token_exchange", "subject_token": {"file": "hunter2"}},
)
METHODS = (
    {"type": "private_key_jwt", "private_key": PEM},
    {"type": "client_secret_jwt", "claims": {"a": SECRET}},
    {"type": "assertion", "assertion": {"file": "hunter2"}},
)
REFRESHING = {**OAUTH2, "grant": {"type": "refresh_token", "refresh_token": SECRET}, "client_secret": SECRET}
RESPONSYS = {"type": "responsys", "login_endpoint": "https://login.example.com", "username": "u", "password": SECRET}
API_KEY = {"X-Key": {"prefix": "k", "secret": SECRET}}
CERTIFICATE = {"certificate": {"inline": "hunter2"}, "private_key": SECRET, "key_passphrase": SECRET}
IDENTITY = ClientIdentity(b"hunter2", b"hunter2", "0" * 64, 0.0, 1.0, "CN=client", "CN=ca")
MATERIAL = CertificateInput(b"hunter2", b"hunter2", "hunter2")
SIGNER = jose.TokenSigner(RSAKey.import_key(oauth.signer().private_pem), "RS256", "hunter2")
SIGNED = assertion.Assertion(SIGNER, "hunter2", "hunter2", "hunter2")
JWT = {"type": "jwt", "algorithm": "HS256", "secret": SECRET, "claims": {"a": [SECRET, {"b": "hunter2"}]}}


SESSION = {
    "type": "session",
    "login": {"url": "https://ws.example.com", "body": {"a": {"b": SECRET}}, "query": {"c": SECRET}},
    "token": {"from": "t"},
}
AUTHENTICATIONS = (
    {"type": "basic", "username": "u", "password": SECRET},
    {"type": "headers", "headers": API_KEY},
    {"type": "jwt", "algorithm": "HS256", "secret": SECRET},
    {"type": "token_exchange", "token_endpoint": "https://sts.example.com", "subject_token": {"file": "hunter2"}},
)
"""Every way to authenticate a login with a secret."""


def models() -> Iterator[BaseModel]:
    """Yield the settings of each kind, and the sections inside them."""
    signing = settings_of(SIGNING)
    assert isinstance(signing, OAuth2Settings)
    headers = settings_of({"type": "headers", "headers": API_KEY, "query": API_KEY, "body": API_KEY})
    assert isinstance(headers, HeadersSettings)
    yield from (signing, signing.grant, headers)
    context = Context("file")
    yield from (OAuth2Settings.model_validate({**OAUTH2, "grant": item}, context=context).grant for item in GRANTS)
    for item in METHODS:
        oauth2 = {**OAUTH2, "client_authentication": item}
        yield OAuth2Settings.model_validate(oauth2, context=context).client_authentication
    yield from (*headers.headers.values(), *headers.query.values(), *headers.body.values())
    yield AddedSettings.model_validate({"query": API_KEY}, context=Context("file"))
    yield from (settings_of(RESPONSYS), settings_of({"type": "basic", "username": "u", "password": SECRET}))
    yield from (
        CertificateSettings.model_validate(CERTIFICATE, context=Context("file")),
        settings_of({"type": "mtls", **CERTIFICATE}),
    )
    yield settings_of(JWT)
    session = settings_of(SESSION)
    assert isinstance(session, SessionSettings)
    logins = (
        LoginSettings.model_validate({"url": "https://ws.example.com", "auth": item}, context=Context("file"))
        for item in AUTHENTICATIONS
    )
    yield from (session, session.login, *(login.auth for login in logins))
    yield TokenRequestSettings.model_validate({"body": {"a": SECRET}, "query": {"b": SECRET}}, context=Context("file"))


def aws() -> Iterator[object]:
    """Yield the identity for STS, its response, the signer, and the settings of both kinds of keys."""
    token = FileToken("token", "hunter2")
    identity = WebIdentity("https://sts.example.com/", "arn:aws:iam::1:role/x", "sidekey", token)
    yield token
    region = CredentialScope("eu-west-1", "sqs")
    yield from (identity, WebIdentityCredential(identity, region, True))
    leaves = _Leaves()
    leaves.texts["SessionToken"] = "hunter2"
    yield leaves
    scope = {"type": "aws_sigv4", "region": "eu-west-1", "service": "sqs"}
    yield settings_of({**scope, "access_key_id": "AKIA", "secret_access_key": SECRET, "session_token": SECRET})
    yield WebIdentitySettings.model_validate(
        {"role_arn": identity.role_arn, "token": {"file": "hunter2"}}, context=Context("file")
    )


def secrets() -> SecretLoader:
    loader = SecretLoader(lambda: FixedCredential(GRANT))
    loader.load()
    return loader


def certificates() -> CertificateLoader:
    loader = CertificateLoader(
        lambda _, __: CertificateResult(IDENTITY), urls=((("auth", "pem"), "https://hunter2.example.com"),)
    )
    loader.add_fetched({("auth", "pem"): b"hunter2"})
    loader.load(0.0)
    return loader


def entered() -> Entered:
    """Return a secret on its way into the store."""
    return Entered({"value": "hunter2"})


def signing() -> Iterator[object]:
    """Yield signature keys, their signers, and their settings."""
    key = Hmac(b"hunter2", "hmac-sha256")
    yield key
    yield from (load_key(private_key(name)[0], name)[0] for name in ("ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"))
    yield SCHEMES["github"].signer([key])
    yield MessageSigner(key, "id", SignatureParameters())
    yield TemplateValues(outgoing(b"Authorization: hunter2"), [b"hunter2"], 0.0, UNIQUE, b"id")
    yield settings_of({"type": "signature", "scheme": "github", "secret": SECRET})
    yield SignatureSectionSettings.model_validate({"scheme": "github", "secret": SECRET}, context=Context("file"))


ACCESS_KEY = AccessKey(b"AKID", b"hunter2")

SECRETS = [
    GRANT,
    Command(("/bin/program", "hunter2")),
    Call("token endpoint", "POST", "https://auth.example.com/hunter2", HEADERS, b"hunter2"),
    Reply(200, {"x": "hunter2"}, b"hunter2"),
    Attempt(5.0, memory="hunter2"),
    FixedCredential(GRANT),
    Supplemented(credential_of(RESPONSYS), GRANT),
    Issued(GRANT, 60.0, memory="hunter2"),
    Lineage(("hunter2",), ("hunter2",), ("hunter2",)),
    Reference("insecure_value", "hunter2"),
    entered(),
    IDENTITY,
    MATERIAL,
    _Checker(MATERIAL),
    CertificateCheck(IDENTITY),
    CertificateResult(IDENTITY),
    PemBlock("PRIVATE KEY", b"hunter2", b"hunter2"),
    PemParts("certificate", "hunter2", "hunter2"),
    certificates(),
    SecretInput(("password",), Reference("insecure_value", "hunter2")),
    secrets(),
    Token("hunter2", 60.0, "https://hunter2.example.com"),
    SIGNER,
    SIGNED,
    credential_of({**JWT, "secret": {"insecure_value": "hunter2" * 5}}),
    ClientProof(HEADERS, (("client_secret", "hunter2"),), (("client_secret", "hunter2"),)),
    Client("body", "hunter2", "hunter2", sign=SIGNED.sign),
    RefreshToken("hunter2"),
    Password("hunter2", "hunter2"),
    JwtBearer(SIGNED.sign),
    TokenRequest("https://auth.example.com/hunter2", body=(("key", "hunter2"),), query=(("key", "hunter2"),)),
    credential_of(REFRESHING),
    credential_of(RESPONSYS),
    credential_of(SESSION),
    LoginRequest("https://ws.example.com/hunter2", "POST", HEADERS, b"hunter2"),
    Identity(("hunter2",), ("hunter2",)),
    TokenExchange(FileToken("token", "hunter2"), "jwt"),
    *models(),
    *signing(),
    *aws(),
    ACCESS_KEY,
    SigV4Signer(ACCESS_KEY, CredentialScope("eu-west-1", "s3"), sign_payload=True),
]
"""An instance of every class that may hold a secret, with the secret in every field that may contain one."""

HARMLESS = {"ResponseShape", "ClientCredentials", "Destinations", "Placement", "InjectionPoints", "CredentialTraits"}
HARMLESS |= {"PassphraseError", "SecretUnreadable", "TokenResponseSettings"}
HARMLESS |= {"DocumentType", "PlacementSettings", "_Component", "_Covered"}
HARMLESS |= {"FileEntry", "MaxEntries", "Context", "FileOnly", "ProvidedText"}
HARMLESS |= {"ClientCredentialsSettings", "CustomGrantSettings", "HeaderSettings", "SimpleMethodSettings"}
HARMLESS |= {"SignatureParameters", "Scheme", "SignatureFields", "SigningKey", "Template"}
HARMLESS |= {"ComparedAs", "TiedToSecret", "SafeToChange", "HiddenFromViewers", "FieldKey", "_Registry", "_ProvenKeys"}
HARMLESS |= {"TokenField", "LoginResponse", "SessionTokenSettings", "NoAuthentication", "_Schema"}
HARMLESS |= {"ChainedSigner", "ChainedSigningRules", "CredentialScope", "OutgoingRequest", "RandomIds", "SigV4Rules"}
HARMLESS |= {"Signer", "SigningRules", "_DatedParts"}
"""Classes that show no secret of the config."""

BASES = (InjectedSettings, KindSettings, PartSettings, Section, SupplementSettings)
BASES += (AssertionSettings, KeyAssertionSettings)


class Pair(KindSettings):
    """A kind with two secrets, the second of at most three characters."""

    type: Literal["pair"]
    one: Secret
    two: Secret

    def traits(self) -> CredentialTraits:
        return CredentialTraits(InjectionPoints(query=("one", "two")))

    def inputs(self) -> Iterator[SecretInput]:
        yield SecretInput(("one",), self.one)
        yield SecretInput(("two",), self.two, _short)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        return FixedCredential(Grant(query=(("one", values["one",]), ("two", values["two",]))))


def _short(text: str) -> None:
    if len(text) > 3:
        raise ValueError("the value is longer than three characters")


@pytest.fixture
def pair() -> Pair:
    return Pair.model_validate({"type": "pair", "one": {"env": "ONE"}, "two": {"env": "TWO"}}, context=Context("file"))


def test_values_of_all_references_become_the_credential(pair: Pair) -> None:
    values, reasons = pair.read(lambda reference: {"ONE": "a", "TWO": "b"}[reference.value], {})
    assert reasons == ()
    credential = pair.credential(values)
    assert isinstance(credential, FixedCredential)
    assert credential.grant == Grant(query=(("one", "a"), ("two", "b")))


def test_all_unreadable_and_invalid_values_are_reported_at_once(pair: Pair) -> None:

    def read(reference: Reference) -> str:
        if reference.value == "ONE":
            raise ValueError("it is not set")
        return "long"

    values, reasons = pair.read(read, {})
    assert values == {}
    assert reasons == (
        (("auth", "one"), "it is not set"),
        (("auth", "two"), "the value is longer than three characters"),
    )


def test_known_values_are_not_read_again(pair: Pair) -> None:
    """The policy was built from these values, so policy and credential must not differ."""
    read: list[str] = []

    def reader(reference: Reference) -> str:
        read.append(reference.value)
        return "new"

    known = {("one",): "old"}
    assert pair.read(reader, known) == ({("one",): "old", ("two",): "new"}, ())
    assert read == ["TWO"]
    assert known == {("one",): "old"}


def test_kind_adds_no_destination_by_default(pair: Pair) -> None:
    assert pair.destinations({}) == Destinations()
    assert pair.needs_prefix


def test_every_class_is_listed_by_whether_it_holds_secrets() -> None:
    """A new class must go into one of the lists above."""
    package = credentials.__path__
    modules = [import_module(module.name) for module in walk_packages(package, f"{credentials.__name__}.")]
    classes = {
        name
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and not issubclass(kind, Enum)
        # Protocols and base classes have no instances of their own.
        if not getattr(kind, "_is_protocol", False) and kind not in (SecretHolder, *BASES, CallError)
    }
    assert len(modules) > 15
    holders = {type(secret) for secret in SECRETS if type(secret).__module__.startswith(credentials.__name__)}
    assert classes == {kind.__name__ for kind in holders} | HARMLESS


def test_error_shows_its_reason_but_not_its_memory() -> None:
    """Errors go into logs."""
    error = CallError("invalid", "token endpoint answered nothing", memory="hunter2")
    assert "hunter2" not in repr(error) + str(error) + f"{error.args}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(error)


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_text_and_dump_of_an_object_redact_its_secrets(secret: object) -> None:
    texts = [repr(secret), str(secret), f"{secret}"]
    if isinstance(secret, BaseModel):
        texts += [secret.model_dump_json(), repr(secret.model_dump())]
    for text in texts:
        assert "hunter2" not in text
        assert "REDACTED" in text


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_object_with_secrets_cannot_be_pickled(secret: object) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_supplement_precedes_the_values_of_a_grant() -> None:
    """The grant keeps its base URL, and the supplemented grant refers to it as `original`."""
    supplement = Grant((("X-Tenant", "a"),), (("q", "b"),), (("f", 5),), "https://elsewhere.example.com", (b"b",))
    own = Grant((("X-Key", "k"),), (("p", "c"),), (("g", "d"),), "https://api.example.com", (b"k",))
    supplemented = own.supplemented(supplement)
    assert supplemented.original is own
    assert supplemented == Grant(
        (("X-Tenant", "a"), ("X-Key", "k")),
        (("q", "b"), ("p", "c")),
        (("f", 5), ("g", "d")),
        "https://api.example.com",
        (b"b", b"k"),
        original=own,
    )
