import pickle
from collections.abc import Iterator, Mapping
from typing import Literal

import pytest

from sidekey.credentials.base import (
    Call,
    Credential,
    Destinations,
    FixedCredential,
    Grant,
    Issued,
    KindSettings,
    Part,
    Places,
    Reply,
    Traits,
)
from sidekey.credentials.fields import Keys, Reference, Secret

SECRETS = [
    Grant(headers=(("Authorization", "hunter2"),), query=(("key", "hunter2"),), body=(("key", "hunter2"),)),
    Call("token endpoint", "POST", "https://auth.example.com/hunter2", (("Authorization", "hunter2"),), b"hunter2"),
    Reply(200, {"x": "hunter2"}, b"hunter2"),
    FixedCredential(Grant(headers=(("Authorization", "hunter2"),))),
    Issued(Grant(headers=(("Authorization", "hunter2"),)), 60.0, memory="hunter2"),
]


class Pair(KindSettings):
    """A kind of two secrets, of which the second is short."""

    type: Literal["pair"]
    one: Secret
    two: Secret

    def traits(self) -> Traits:
        return Traits(Places(query=("one", "two")))

    def parts(self) -> Iterator[Part]:
        yield Part(("one",), self.one)
        yield Part(("two",), self.two, _short)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        return FixedCredential(Grant(query=(("one", values["one",]), ("two", values["two",]))))


def _short(text: str) -> None:
    if len(text) > 3:
        raise ValueError("the value is longer than three characters")


@pytest.fixture
def pair() -> Pair:
    return Pair.model_validate({"type": "pair", "one": {"env": "ONE"}, "two": {"env": "TWO"}})


def test_a_kind_is_made_of_its_parts(pair: Pair) -> None:
    """What the reader gives for each reference becomes the credential."""
    values, reasons = pair.read(lambda reference: {"ONE": "a", "TWO": "b"}[reference.value], {})
    assert reasons == ()
    credential = pair.credential(values)
    assert isinstance(credential, FixedCredential)
    assert credential.grant == Grant(query=(("one", "a"), ("two", "b")))


def test_all_unreadable_parts_are_named_at_once(pair: Pair) -> None:
    """A part that cannot be read does not hide one that may not be used."""

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


def test_what_is_known_is_not_read_again(pair: Pair) -> None:
    """The policy was made of it, and the two belong together."""
    read: list[str] = []

    def reader(reference: Reference) -> str:
        read.append(reference.value)
        return "new"

    known = {("one",): "old"}
    assert pair.read(reader, known) == ({("one",): "old", ("two",): "new"}, ())
    assert read == ["TWO"]
    assert known == {("one",): "old"}


def test_a_kind_goes_nowhere_by_itself(pair: Pair) -> None:
    """Unless it says otherwise, the integration alone names what may be reached."""
    assert pair.destinations({}) == Destinations()
    assert pair.needs_prefix


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_what_holds_secrets_shows_none(secret: object) -> None:
    """repr, str and format say REDACTED where the secret stands."""
    for shown in (repr(secret), str(secret), f"{secret}"):
        assert "hunter2" not in shown
        assert "REDACTED" in shown


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
def test_what_holds_secrets_is_not_pickled(secret: object) -> None:
    """Pickling fails instead of writing the secret out."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
