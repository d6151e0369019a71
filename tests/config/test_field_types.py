import re

import pytest

from sidekey.config import field_types
from sidekey.credentials.context import Context
from sidekey.snapshot.snapshot import Address, Trust


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("127.0.0.1", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[::0001]:80", Address("::1", 80)),
        ("unix:/run/sidekey.sock", Address(path="/run/sidekey.sock")),
        ("unix:sidekey.sock", Address(path="sidekey.sock")),
    ],
)
def test_listener_address_is_an_ip_with_port_or_a_socket(text: str, address: Address) -> None:
    assert field_types.parse_address(text) == address


@pytest.mark.parametrize(
    "raw",
    [
        *("", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:080", "127.0.0.1:8080 "),
        *("::1:8080", "[127.0.0.1]:80", "api.example.com:80", "127.1:80", "http://127.0.0.1:80"),
        *(8080, None, ["127.0.0.1:8080"]),
    ],
)
def test_other_listener_address_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"such as 127\.0\.0\.1:8080"):
        field_types.parse_address(raw)


@pytest.mark.parametrize("path", ["", "a\0b", "a" * 108, "ü" * 54])
def test_socket_path_has_at_most_107_bytes(path: str) -> None:
    """sockaddr_un takes 107 bytes and a NUL (unix(7))."""
    with pytest.raises(ValueError, match="1 to 107 bytes"):
        field_types.parse_address(f"unix:{path}")


@pytest.mark.parametrize(("text", "mode"), [("0600", 0o600), ("0660", 0o660), ("0777", 0o777)])
def test_mode_is_octal(text: str, mode: int) -> None:
    assert field_types.parse_mode(text) == mode


@pytest.mark.parametrize("raw", [600, 0o600, "600", "0o600", "0800", "01777", None])
def test_mode_that_is_not_octal_is_refused(raw: object) -> None:
    """A decimal 600 would be a different mode."""
    with pytest.raises(ValueError, match="four octal digits"):
        field_types.parse_mode(raw)


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("127.0.0.1", "127.0.0.1/32"), ("fd00::/8", "fd00::/8"), ("::1", "::1/128")],
)
def test_network_may_be_one_address(text: str, network: str) -> None:
    assert str(field_types.parse_network(text)) == network


@pytest.mark.parametrize("raw", ["10.0.0.1/8", "fd00::1/8", "10.0.0.0/33", "10/8", "localhost", "", 10, None])
def test_network_with_bits_beyond_the_prefix_length_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must "):
        field_types.parse_network(raw)


@pytest.mark.parametrize("text", ["192.0.2.10", "127.0.0.2", "169.254.7.7", "2001:db8::10", "fd00::1", "::1"])
def test_source_address_may_be_private(text: str) -> None:
    assert str(field_types.parse_source_address(text)) == text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "must be an IP address of this machine"),
        ("localhost", "must be an IP address of this machine"),
        ("192.0.2.10:0", "must be an IP address of this machine"),
        ("192.0.2.0/24", "must be an IP address of this machine"),
        ("[::1]", "must be an IP address of this machine"),
        (10, "must be an IP address of this machine"),
        (["192.0.2.10"], "must be an IP address of this machine"),
        ("0.0.0.0", "to let the system choose, remove this key"),
        ("::", "to let the system choose, remove this key"),
        ("224.0.0.1", "must be a unicast address"),
        ("255.255.255.255", "must be a unicast address"),
        ("ff02::1", "must be a unicast address"),
        ("fe80::1%eth0", "must not be a link-local address: write a global one"),
        ("fe80::1", "must not be a link-local address: write a global one"),
        ("2001:db8::1%eth0", "must not have a zone: write the address without %"),
        ("::ffff:192.0.2.10", "must not be an IPv4-mapped address: write 192.0.2.10"),
    ],
)
def test_unusable_source_address_is_refused_with_a_remedy(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        field_types.parse_source_address(raw)


@pytest.mark.parametrize(("text", "host"), [("API.example.com", "api.example.com"), ("localhost", "localhost")])
def test_host_name_becomes_lower_case(text: str, host: str) -> None:
    """RFC 9110 4.2.3."""
    assert field_types.check_host_name(text) == host


@pytest.mark.parametrize(
    "text", ["", "a b", "api.example.com.", "api.example.com:80", "127.0.0.1", "::1", "[::1]", "bücher.example"]
)
def test_host_with_port_final_dot_or_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        field_types.check_host_name(text)


@pytest.mark.parametrize(
    ("raw", "trust"),
    [("mozilla", Trust("mozilla")), ("system", Trust("system")), ({"file": "ca.pem"}, Trust("file", "ca.pem"))],
)
def test_trusted_ca_is_a_bundle_a_file_or_inline(raw: object, trust: Trust) -> None:
    assert field_types.parse_trust(raw, Context("file")) == trust


@pytest.mark.parametrize(
    "raw", ["Mozilla", "", None, [], {}, {"file": ""}, {"file": 1}, {"env": "CA"}, {"file": "a", "x": 1}]
)
def test_other_trusted_ca_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="mozilla, system, "):
        field_types.parse_trust(raw, Context("file"))


@pytest.mark.parametrize("name", ["a", "0", "crm", "crm-2_eu", "a" * 63])
def test_name_is_not_changed(name: str) -> None:
    assert field_types.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a.b", "a/b", "a" * 64, "crm\n", "ä"])
def test_name_with_other_characters_is_refused(name: str) -> None:
    """An ID is part of paths, headers and labels, where other characters would need escapes."""
    with pytest.raises(ValueError, match="must be 1 to 63"):
        field_types.check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "text/xml; charset=utf-8",
        'Text/XML;Charset="UTF-8"',
        "multipart/form-data",
        'application/soap+xml; charset=utf-8; action="urn:a b"',
        "text/plain; charset=iso-8859-1",
    ],
)
def test_content_type_is_a_media_type_with_parameters(text: str) -> None:
    """RFC 9110 8.3.1."""
    assert field_types.check_content_type(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "json",
        "text/",
        "text/plain;",
        "text/plain; charset",
        "text/plain\r\nX: y",
        "text/plain, text/html",
        "te xt/plain",
    ],
)
def test_other_content_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a media type"):
        field_types.check_content_type(text)


def test_preset_with_the_method_head_is_refused() -> None:
    """The response to the caller's POST needs a body."""
    assert field_types.check_preset_method("PUT") == "PUT"
    for text, reason in (
        ("HEAD", "must not be HEAD"),
        ("put", "in capitals"),
        ("FETCH", "a known method"),
        ("CONNECT", "TRACE or CONNECT"),
    ):
        with pytest.raises(ValueError, match=reason):
            field_types.check_preset_method(text)


@pytest.mark.parametrize(("text", "good"), [("a", True), ("_a-B9", True), ("9a", False), ("", False), ("a.b", False)])
def test_parameter_name_must_fit_a_placeholder(text: str, good: bool) -> None:
    if good:
        assert field_types.check_parameter_name(text) == text
    else:
        with pytest.raises(ValueError, match="begin with a letter or _"):
            field_types.check_parameter_name(text)
