import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.encodings import SecretEncoding, decoded


@given(key=st.binary(min_size=1, max_size=70))
def test_every_spelling_of_a_key_is_read(key: bytes) -> None:
    """Hex in either case; base64 of both alphabets, with its padding or without."""
    assert decoded(key.hex(), "hex") == decoded(key.hex().upper(), "hex") == key
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(key).decode()
        assert decoded(text, "base64") == decoded(text.rstrip("="), "base64") == key


def test_a_text_is_its_own_bytes() -> None:
    """In UTF-8, also where it looks like hex."""
    assert decoded("00ff\u00fc", "text") == b"00ff\xc3\xbc"


NO_KEYS: dict[SecretEncoding, tuple[str, ...]] = {
    "hex": ("abc", "0x0a", "aa bb", "gg", "", "\u0663\u0663"),
    "base64": ("a", "YQ==YQ==", "YW Jj", "Y\u00fc==", "YWJj!"),
}


@pytest.mark.parametrize("encoding", NO_KEYS)
def test_what_is_none_is_an_error(encoding: SecretEncoding) -> None:
    """Which says what was expected, and repeats nothing."""
    for text in NO_KEYS[encoding]:
        with pytest.raises(ValueError, match=rf"^must be {encoding}, as secret_encoding says") as caught:
            decoded(text, encoding)
        assert len(text) < 4 or text not in str(caught.value)
