"""The config of the kind `aws_sigv4`, and the credential that it builds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
)
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.aws.sigv4 import S3, AccessKey, CredentialScope, SigV4Rules
from sidekey.credentials.aws.sts import WebIdentity, WebIdentityCredential, signing_grant
from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    Destinations,
    Findings,
    FixedCredential,
    InjectionPoints,
    KindSettings,
    SecretInput,
)
from sidekey.credentials.context import FileOnly
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.endpoint import canonical_endpoint, parse_endpoint
from sidekey.credentials.fields import (
    Keys,
    PublicText,
    Reference,
    Secret,
    Section,
    Text,
    literal_check,
    mapping,
)
from sidekey.credentials.token_file import FileToken, TokenFile, needs_file, token_check
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.targets import Forbidden

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_]{4,128}")
_SECRET_ACCESS_KEY = re.compile(r"[\x21-\x7e]+")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{1,12}:role/[\x21-\x7e]{1,1024}")
_SESSION = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_AWS_HOST = re.compile(r".+\.amazonaws\.com(?:\.cn)?")

_TOKEN_KEYS: Keys = ("web_identity", "token")

RESERVED = "x-amz-"
"""Prefix of query parameters that sign a URL (presigned URLs), or change the signed content."""


def _check_region(text: str) -> None:
    if not _REGION.fullmatch(text):
        raise ValueError("must be the name of a region, such as eu-west-1")


def _check_service(text: str) -> str:
    if not _SERVICE.fullmatch(text):
        raise ValueError("must be the signing name of a service, such as s3, sqs or execute-api")
    return text


def _check_access_key_id(text: str) -> None:
    if not _ACCESS_KEY_ID.fullmatch(text):
        raise ValueError("must be an access key ID: 4 to 128 letters and digits")


def _check_secret(text: str) -> None:
    if not _SECRET_ACCESS_KEY.fullmatch(text):
        raise ValueError("must be visible ASCII characters only")


def _check_role(text: str) -> None:
    if not _ROLE.fullmatch(text):
        raise ValueError("must be the ARN of a role, such as arn:aws:iam::123456789012:role/name")


def _check_session(text: str) -> None:
    if not _SESSION.fullmatch(text):
        raise ValueError("must be 2 to 64 letters, digits and _+=,.@-")


def _check_sts_endpoint(text: str) -> None:
    if parse_endpoint(text).query is not None:
        raise ValueError("must not contain a query")


def _canonicalize(endpoint: Reference | None) -> str | None:
    return None if endpoint is None else canonical_endpoint(endpoint)


class WebIdentitySettings(Section):
    """A role whose access keys STS returns for a token of an identity provider, such as a pod's."""

    role_arn: Annotated[Text, literal_check(_check_role)] = Field(description="The role's ARN.")
    token: TokenFile = Field(
        description="The file with the identity provider's token, as `{file: PATH}`; it is read again for each call."
    )
    session_name: Annotated[PublicText, literal_check(_check_session)] = Field(
        default_factory=lambda: Reference("text", "sidekey"), description="The session's name, which AWS logs."
    )


class AwsSigV4Settings(KindSettings):
    """Signs requests to AWS and compatible servers with an access key (Signature Version 4)."""

    title: ClassVar[str] = "AWS Signature Version 4"
    summary: ClassVar[str] = "An access key that signs each request"
    aliases: ClassVar[tuple[str, ...]] = (
        "Amazon Web Services",
        "SigV4",
        "S3",
        "IAM",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"aws", "sigv4"})

    # Pydantic validates in this order, and a validator sees only the keys above its own.
    type: Literal["aws_sigv4"] = Field(description="The kind: AWS Signature Version 4.")
    region: Annotated[Text, literal_check(_check_region)] = Field(
        description="The region in the signature, such as `eu-west-1`."
    )
    service: Annotated[str, AfterValidator(_check_service)] = Field(
        description="The service's signing name: `s3`, `sqs`, `dynamodb`, `execute-api`, `bedrock`, ..."
    )
    web_identity: Annotated[
        WebIdentitySettings | None,
        needs_file("give access_key_id and secret_access_key, or write the integration in a file"),
    ] = Field(
        default=None,
        description="Instead of keys: a role whose keys Sidekey gets from STS and renews before they expire.",
    )
    sts_endpoint: Annotated[
        Annotated[Text, literal_check(_check_sts_endpoint)] | None,
        ComparedAs(_canonicalize),
        FileOnly("may be used only with web_identity"),
    ] = Field(
        default=None,
        description="With `web_identity`: the https URL of STS; default: `https://sts.REGION.amazonaws.com`, "
        "`.com.cn` in China. It is never a target.",
    )
    access_key_id: Annotated[Annotated[Text, literal_check(_check_access_key_id)] | None, SAFE_TO_CHANGE] = Field(
        default=None, validate_default=True, description="The access key's ID."
    )
    secret_access_key: Annotated[Secret, literal_check(_check_secret)] | None = Field(
        default=None, validate_default=True, description="The secret access key, as a reference."
    )
    session_token: Annotated[Secret, literal_check(_check_secret)] | None = Field(
        default=None, description="The session token of a temporary key, as a reference."
    )
    payload: Annotated[Literal["signed", "unsigned"], SAFE_TO_CHANGE] = Field(
        default="signed",
        description="Whether Sidekey signs the body, and therefore holds it until it is complete. `unsigned`: the "
        "body streams; only for S3 over https, because TLS then protects the body.",
    )

    @field_validator("sts_endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: Reference | None, info: ValidationInfo) -> Reference | None:
        if endpoint is not None and info.data.get("web_identity", endpoint) is None:
            raise ValueError("may be used only with web_identity")
        return endpoint

    @field_validator("access_key_id", "secret_access_key", "session_token")
    @classmethod
    def _check_keys(cls, key: Reference | None, info: ValidationInfo) -> Reference | None:
        if "web_identity" not in info.data:
            return key
        uses_web_identity = info.data["web_identity"] is not None
        if uses_web_identity and key is not None:
            raise ValueError("may not be used with web_identity, which brings the keys: remove one")
        if not uses_web_identity and key is None and info.field_name != "session_token":
            raise PydanticKnownError("missing")
        return key

    @field_validator("payload")
    @classmethod
    def _check_payload(cls, payload: str, info: ValidationInfo) -> str:
        if payload == "unsigned" and info.data.get("service", "s3") not in S3:
            raise ValueError("must be signed: only S3 takes an unsigned payload")
        return payload

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Refuse an unsigned payload over http."""
        value = integration.get("endpoint_prefix")
        prefixes = value if isinstance(value, list) else [value]
        uses_http = any(isinstance(prefix, str) and prefix.lower().startswith("http://") for prefix in prefixes)
        if uses_http and mapping(integration.get("auth")).get("payload") == "unsigned":
            yield ("auth", "payload"), "must be signed: by http:// nothing else protects the body"

    def traits(self) -> CredentialTraits:
        """Return the traits. Targets must be in canonical form, because the signer canonicalizes the URL."""
        return CredentialTraits(
            InjectionPoints(),
            calls=self.web_identity is not None,
            signing=SigV4Rules(self.service, sign_payload=self.payload == "signed"),
            canonical_form=CanonicalForm(RESERVED),
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield every configured text and secret."""
        yield SecretInput(("region",), self.region, _check_region)
        for name, reference, check in (
            ("sts_endpoint", self.sts_endpoint, _check_sts_endpoint),
            ("access_key_id", self.access_key_id, _check_access_key_id),
            ("secret_access_key", self.secret_access_key, _check_secret),
            ("session_token", self.session_token, _check_secret),
        ):
            if reference is not None:
                yield SecretInput((name,), reference, check)
        identity = self.web_identity
        if identity is not None:
            yield SecretInput(("web_identity", "role_arn"), identity.role_arn, _check_role)
            yield SecretInput(("web_identity", "session_name"), identity.session_name, _check_session)
            yield SecretInput(_TOKEN_KEYS, identity.token, token_check(identity.token))

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Forbid the endpoint of STS as a target, because it returns access keys. At AWS, forbid its whole host."""
        if self.web_identity is None:
            return Destinations()
        endpoint = self._sts_url(values)
        if endpoint is None:
            return None
        target = parse_endpoint(endpoint)
        is_aws = _AWS_HOST.fullmatch(target.origin.host) is not None
        return Destinations(forbidden=(Forbidden(target.origin, "/" if is_aws else target.path, below=is_aws),))

    def _sts_url(self, values: Mapping[Keys, str]) -> str | None:
        """Return the URL of STS, or None if a value that it depends on is unknown."""
        if self.sts_endpoint is not None:
            return values.get(("sts_endpoint",))
        region = values.get(("region",))
        if region is None:
            return None
        return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build the credential from the values of `inputs`."""
        scope = CredentialScope(values["region",], self.service)
        sign_payload = self.payload == "signed"
        if self.web_identity is None:
            token = values.get(("session_token",))
            key = AccessKey(
                values["access_key_id",].encode(),
                values["secret_access_key",].encode(),
                None if token is None else token.encode(),
            )
            return FixedCredential(signing_grant(key, scope, sign_payload=sign_payload))
        role, session, token = (values["web_identity", name] for name in ("role_arn", "session_name", "token"))
        file_token = FileToken(self.web_identity.token.value, token)
        identity = WebIdentity(self._sts_url(values) or "", role, session, file_token)
        return WebIdentityCredential(identity, scope, sign_payload)
