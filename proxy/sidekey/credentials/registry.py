"""The registered kinds, and the parts besides `auth`. The config's union of kinds and its schema derive from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Union

from pydantic import Field

from sidekey.credentials.aws.settings import AwsSigV4Settings
from sidekey.credentials.base import KindSettings, SupplementSettings
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.headers import HeadersSettings
from sidekey.credentials.injection import AddedSettings
from sidekey.credentials.jwt import JwtSettings
from sidekey.credentials.mtls import MtlsSettings
from sidekey.credentials.oauth2.settings import OAuth2Settings
from sidekey.credentials.responsys import ResponsysSettings
from sidekey.credentials.session import SessionSettings
from sidekey.credentials.signature import SignatureSettings
from sidekey.credentials.signatures.settings import SignatureSectionSettings

KINDS: Final[dict[str, type[KindSettings]]] = {
    "basic": BasicSettings,
    "headers": HeadersSettings,
    "oauth2": OAuth2Settings,
    "responsys": ResponsysSettings,
    "mtls": MtlsSettings,
    "signature": SignatureSettings,
    "session": SessionSettings,
    "jwt": JwtSettings,
    "aws_sigv4": AwsSigV4Settings,
}
"""The kinds, in the order in which the console offers them."""

SUPPLEMENTS: tuple[type[SupplementSettings], ...] = (AddedSettings, SignatureSectionSettings)
"""The parts besides `auth`, in the order in which they supplement a grant."""

if TYPE_CHECKING:
    AuthSettings = KindSettings
else:
    # Type checkers do not accept a union that is made at run time.
    AuthSettings = Annotated[Union[tuple(KINDS.values())], Field(discriminator="type")]  # noqa: UP007
    """The `auth:` block: one of the kinds, by `type`."""
