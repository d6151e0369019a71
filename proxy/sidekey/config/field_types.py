"""Field types of the config models: names, listener addresses, networks, prefixes, methods, trusted CAs.

Each parser raises ValueError. The message states the rule, and never repeats the input.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from sidekey.config.ca_bundles import check_bundle, check_no_local_ca
from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.fields import Reference, parse_text, refuse, refuse_file_reference, refuse_key, shape_marker
from sidekey.policy import addresses
from sidekey.policy.headers import TARGET_HEADERS
from sidekey.policy.integration_rules import DEFAULT_METHODS
from sidekey.policy.targets import NEVER_FORWARDED, Domain, Prefix, parse_domain, parse_prefix
from sidekey.policy.urls import Origin, check_characters, parse_authority, parse_origin
from sidekey.presets.preset import CONTENT_TYPE
from sidekey.presets.template import NAME as PARAMETER_NAME
from sidekey.snapshot.snapshot import Address, Trust

NAME_PATTERN = "[a-z0-9][a-z0-9_-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
_METHODS = frozenset(method.decode() for method in DEFAULT_METHODS)
_PORT = re.compile("0|[1-9][0-9]{0,4}")
_MODE = re.compile("0[0-7]{3}")
_MAX_SOCKET_PATH_LENGTH = 107
_BROADCAST = IPv4Address("255.255.255.255")


def check_name(text: str) -> str:
    """Check an ID or a name in the config. Metrics use `unknown` for an ID or name that the config does not have."""
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter or digit")
    if text == "unknown":
        raise ValueError("unknown is reserved: choose another name")
    return text


def check_host_name(text: str) -> str:
    """Check a host name without port, and return it in lower case."""
    try:
        host = parse_origin("https", text).host
    except ValueError:
        host = ""
    if not host or ":" in text or host.endswith(".") or addresses.parse_address(host) is not None:
        raise ValueError("must be a host name without port and final dot: write an international one in punycode")
    return host


def check_host_suffix(text: str) -> str:
    """Check a host name that also covers its subdomains."""
    host = check_host_name(text)
    if "." not in host:
        raise ValueError("must have at least two labels, such as example.com")
    return host


def check_file_path(text: str) -> str:
    """Check the path of a file or folder."""
    if not text or not text.isprintable():
        raise ValueError("must be a path, not empty and without control characters")
    return text


def parse_address(raw: object) -> Address:
    """Parse a listener's ADDRESS:PORT or unix:PATH."""
    rule = "must be ADDRESS:PORT with an IP address, such as 127.0.0.1:8080 or [::1]:8080, or unix:/run/sidekey.sock"
    if not isinstance(raw, str):
        raise ValueError(rule)  # noqa: TRY004 - pydantic reports ValueError
    if raw.startswith("unix:"):
        path = raw.removeprefix("unix:")
        if not path.isprintable() or not 0 < len(path.encode()) <= _MAX_SOCKET_PATH_LENGTH:
            raise ValueError(f"the path of a unix socket must have 1 to {_MAX_SOCKET_PATH_LENGTH} bytes")
        return Address(path=path)
    host, colon, port = raw.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(rule)
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError(rule) from None
    if bracketed != (address.version == 6):
        raise ValueError(rule)
    return Address(host=str(address), port=int(port))


def parse_mode(raw: object) -> int:
    """Parse the file mode of unix sockets, in octal digits."""
    if not isinstance(raw, str) or not _MODE.fullmatch(raw):
        raise ValueError("must be four octal digits, such as 0660")
    return int(raw, 8)


def parse_network(raw: object) -> addresses.Network:
    """Parse a network such as 10.0.0.0/8, or a single address."""
    if not isinstance(raw, str):
        raise ValueError("must be a network as text, such as 10.0.0.0/8")  # noqa: TRY004 - as above
    try:
        network = ip_network(raw, strict=False)
    except ValueError:
        raise ValueError("must be an IP address and a prefix length, such as 10.0.0.0/8 or fd00::/8") from None
    if ip_address(raw.partition("/")[0]) != network.network_address:
        raise ValueError(f"must not have bits set beyond the prefix length: write {network}")
    return network


def parse_ip(raw: object) -> str:
    """Parse an IP address, and return its shortest form."""
    try:
        if isinstance(raw, str):
            return str(ip_address(raw))
    except ValueError:
        pass
    raise ValueError("must be an IP address as text, such as 127.0.0.1 or ::1")


def parse_source_address(raw: object) -> addresses.Address:
    """Parse the local address of outgoing connections, which must be unicast and without a zone."""
    try:
        address = ip_address(raw) if isinstance(raw, str) else None
    except ValueError:
        address = None
    if address is None:
        raise ValueError("must be an IP address of this machine as text, such as 192.0.2.10 or 2001:db8::10")
    if address.is_unspecified:
        raise ValueError("must be one address: to let the system choose, remove this key")
    if address.is_multicast or address == _BROADCAST:
        raise ValueError("must be a unicast address: no connection leaves from a multicast or broadcast address")
    if isinstance(address, IPv6Address):
        if address.is_link_local:
            # It needs a zone, and reaches nothing beyond the link (RFC 4007 11).
            raise ValueError("must not be a link-local address: write a global one, or a unique local one (fd00::/8)")
        if address.scope_id is not None:
            raise ValueError("must not have a zone: write the address without % and what follows it")
        if address.ipv4_mapped is not None:
            raise ValueError(f"must not be an IPv4-mapped address: write {address.ipv4_mapped}")
    return address


def parse_proxy_url(raw: object) -> Origin:
    """Parse the URL of a parent proxy: scheme, host and port only."""
    rule = "must be http:// or https:// with a host and a port, such as http://proxy.example.com:3128"
    if not isinstance(raw, str):
        raise ValueError(rule)  # noqa: TRY004 - as above
    scheme, separator, authority = raw.partition("://")
    authority = authority.removesuffix("/")
    if "@" in authority:
        raise ValueError("must not contain a user or password: write them under username and password")
    try:
        parse_authority(authority)
        return parse_origin(scheme if separator else "", authority)
    except ValueError:
        raise ValueError(rule) from None


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def parse_no_proxy(raw: object) -> str | addresses.Network:
    """Parse a host name, a suffix that begins with a dot, an IP address or a network."""
    text = raw if isinstance(raw, str) else ""
    if _is_network(text):
        # Its error names the network to write.
        return parse_network(text)
    if text.endswith("."):
        raise ValueError("must not end with a dot")
    try:
        return f".{check_host_name(text[1:])}" if text.startswith(".") else check_host_name(text)
    except ValueError:
        raise ValueError(
            "must be a host name, such as intranet.example.com, a suffix, such as .example.com, or an IP address or "
            "network, such as 10.0.0.0/8, without a port or *"
        ) from None


def parse_trust(raw: object, context: Context) -> Trust:
    """Parse the trusted CAs: mozilla, system, {inline: PEM}, or in a file {file: PATH}."""
    if raw in ("mozilla", "system"):
        return Trust(str(raw))
    if isinstance(raw, Mapping) and not context.is_file:
        refuse_file_reference(raw, "send {inline: PEM}")
    key, text = next(iter(raw.items())) if isinstance(raw, dict) and len(raw) == 1 else (None, None)
    if key == "file" and isinstance(text, str) and text:
        return Trust("file", text)
    if key == "inline" and isinstance(text, str):
        return _parse_inline_trust(text)
    file = "{file: PATH} of a PEM file, " if context.is_file else ""
    raise ValueError(f"must be mozilla, system, {file}or {{inline: PEM}}")


def _parse_inline_trust(text: str) -> Trust:
    refuse_key(text, "remove it")
    # Text between the certificates may be in any encoding.
    data = text.encode("ascii", "replace")
    try:
        check_bundle(data.decode())
        check_no_local_ca(data)
    except ValueError as error:
        raise ValueError(f"the value {error}") from None
    return Trust("inline", None, hashlib.sha256(data).hexdigest(), data.decode())


def parse_grants(raw: object) -> tuple[str, ...] | None:
    """Parse the IDs that a caller may use; None means all."""
    if raw == "*":
        return None
    if not isinstance(raw, list):
        raise ValueError('must be a list of IDs, or "*" for all of them')  # noqa: TRY004 - as above
    errors: list[tuple[tuple[int], ValueError]] = []
    for index, entry in enumerate(raw):
        try:
            check_name(entry if isinstance(entry, str) else "")
        except ValueError as error:
            errors.append(((index,), error))
    refuse(errors)
    return tuple(dict.fromkeys(raw))


def check_method(text: str) -> str:
    """Check a method. Methods are case-sensitive (RFC 9110 9.1)."""
    if text in NEVER_FORWARDED:
        raise ValueError("must not be TRACE or CONNECT, which are never forwarded")
    if text not in _METHODS:
        raise ValueError("must be a known method in capitals, such as POST")
    return text


def check_target_header(text: str) -> str:
    """Check a header that Sidekey drops unless an integration passes it, and return it with the usual capitals."""
    for name in TARGET_HEADERS:
        if name.lower() == text.lower():
            return name
    raise ValueError(f"must be one of {', '.join(TARGET_HEADERS)}: every other header passes without being listed here")


def check_preset_method(text: str) -> str:
    """Check the method of a preset, which callers send as POST."""
    if text == "HEAD":
        raise ValueError("must not be HEAD: its response has no body, but the caller sends a POST and expects one")
    return check_method(text)


def check_parameter_name(text: str) -> str:
    """Check the name of a preset's parameter."""
    if not re.fullmatch(PARAMETER_NAME, text):
        raise ValueError("must be 1 to 63 letters, digits, _ and -, and begin with a letter or _")
    return text


def check_content_type(text: str) -> str:
    """Check a media type with its parameters (RFC 9110 8.3.1)."""
    if not CONTENT_TYPE.fullmatch(text):
        raise ValueError("must be a media type, such as application/json")
    return text


def check_test_path(text: str) -> str:
    """Check a path (and query) under the integration's base URL."""
    if text and not text.startswith("/"):
        raise ValueError("must begin with a slash: it is appended to the base URL")
    check_characters(text)
    return text


def _parse_prefix_or_reference(raw: object, context: Context) -> Prefix | Reference:
    reference = parse_text(raw, context)
    return parse_prefix(reference.value) if reference.source == "text" else reference


def _parse_domain_text(raw: object) -> Domain:
    if not isinstance(raw, str):
        raise ValueError("must be a base URL, such as https://api.example.com")  # noqa: TRY004 - as above
    return parse_domain(raw)


def _as_list(raw: Any) -> Any:
    return raw if isinstance(raw, list) else [raw]


@dataclass(frozen=True, slots=True)
class OrNone:
    """Marks a section for which the document may write the text `none`, which stays a text."""

    section: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        section = handler.generate_schema(self.section)
        return core_schema.no_info_wrap_validator_function(_none_or_section, core_schema.nullable_schema(section))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "none"}, *handler(schema)["anyOf"]]}


def refuse_empty(raw: object) -> object:
    """Refuse a key without a value, which would otherwise connect directly. Raises ValueError."""
    if raw is None:
        raise ValueError("must not be empty: add url, or remove this key")
    return raw


def _none_or_section(raw: object, validate: Callable[[object], object]) -> object:
    refuse_empty(raw)
    if isinstance(raw, bool | int | float | list | str) and raw != "none":
        raise ValueError("must be a mapping, or none")
    return raw if raw == "none" else validate(raw)


_AS_TEXT = PlainSerializer(str, return_type=str)

Name = Annotated[str, AfterValidator(check_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"})]
HostName = Annotated[str, AfterValidator(check_host_name)]
HostSuffix = Annotated[str, AfterValidator(check_host_suffix)]
FilePath = Annotated[str, AfterValidator(check_file_path)]
ListenAddress = Annotated[
    Address,
    PlainValidator(parse_address),
    _AS_TEXT,
    WithJsonSchema({"title": "Listener address", "type": "string", "pattern": "^(unix:.+|.+:[0-9]{1,5})$"}),
]
Mode = Annotated[
    int,
    PlainValidator(parse_mode),
    PlainSerializer(lambda mode: f"0{mode:o}", return_type=str),
    WithJsonSchema({"title": "File mode", "type": "string", "pattern": "^0[0-7]{3}$"}),
]
PrivateNetwork = Annotated[
    addresses.Network, PlainValidator(parse_network), _AS_TEXT, WithJsonSchema({"title": "Network", "type": "string"})
]
StaticAddress = Annotated[str, PlainValidator(parse_ip), WithJsonSchema({"title": "IP address", "type": "string"})]
SourceAddress = Annotated[
    addresses.Address,
    PlainValidator(parse_source_address),
    _AS_TEXT,
    WithJsonSchema({"title": "IP address", "type": "string"}),
]
ProxyUrl = Annotated[
    Origin, PlainValidator(parse_proxy_url), _AS_TEXT, WithJsonSchema({"title": "URL", "type": "string"})
]
NoProxyEntry = Annotated[
    str | addresses.Network,
    PlainValidator(parse_no_proxy),
    _AS_TEXT,
    WithJsonSchema({"title": "Host, suffix or network", "type": "string"}),
]
TrustedCA = Annotated[
    Trust,
    parsed_by(parse_trust),
    PlainSerializer(lambda trust: trust.path or trust.source, return_type=str),
    WithJsonSchema(shape_marker("trusted_ca")),
]
CallerGrants = Annotated[
    tuple[str, ...] | None,
    PlainValidator(parse_grants),
    PlainSerializer(lambda granted: "*" if granted is None else list(granted)),
    WithJsonSchema(
        {
            "title": "IDs",
            "oneOf": [
                {"const": "*"},
                {"type": "array", "items": {"type": "string", "pattern": f"^{NAME_PATTERN}$"}},
            ],
        }
    ),
]
_METHOD_SCHEMA = WithJsonSchema({"title": "Method", "type": "string", "pattern": "^[A-Z][A-Z-]*$"})
Method = Annotated[str, AfterValidator(check_method), _METHOD_SCHEMA]
TargetHeader = Annotated[
    str,
    AfterValidator(check_target_header),
    WithJsonSchema({"title": "TargetHeader", "type": "string", "enum": list(TARGET_HEADERS)}),
]
PresetMethod = Annotated[str, AfterValidator(check_preset_method), _METHOD_SCHEMA]
ParameterName = Annotated[
    str,
    AfterValidator(check_parameter_name),
    WithJsonSchema({"type": "string", "pattern": f"^{PARAMETER_NAME}$"}),
]
ContentType = Annotated[str, AfterValidator(check_content_type)]
JsonValue = Annotated[Any, WithJsonSchema({"title": "Value"})]
"""Any JSON value."""
Scalar = Annotated[
    Any, WithJsonSchema({"title": "Text, number, true or false", "type": ["string", "number", "boolean", "null"]})
]
TestPath = Annotated[str, AfterValidator(check_test_path)]
EndpointPrefixes = Annotated[
    list[Annotated[Prefix | Reference, parsed_by(_parse_prefix_or_reference), _AS_TEXT]],
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "title": "Endpoint prefixes",
            "oneOf": [shape_marker("text"), {"type": "array", "items": shape_marker("text")}],
        }
    ),
]
AllowedDomain = Annotated[
    Domain, PlainValidator(_parse_domain_text), _AS_TEXT, WithJsonSchema({"title": "Domain", "type": "string"})
]
