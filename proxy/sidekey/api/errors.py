"""The error responses of the API (RFC 9457): code, status and title. They never repeat a value of the request."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field

from sidekey.config.errors import MAX_ERRORS, MORE_ERRORS
from sidekey.credentials.fields import Section

TYPE: Final = "application/problem+json"
"""RFC 9457."""


class Code(NamedTuple):
    """Status and title of a problem."""

    status: int
    title: str


CODES: Final[Mapping[str, Code]] = {
    "malformed": Code(400, "The request is malformed"),
    "unauthenticated": Code(401, "The request needs an operator's token"),
    "oidc_failed": Code(401, "The company log-in did not succeed"),
    "forbidden": Code(403, "The operator's role does not allow this"),
    "no_role": Code(403, "The company account has no role in Sidekey"),
    "login_again": Code(403, "The change needs a new log-in"),
    "store_denied": Code(403, "The database user of this Sidekey lacks a privilege"),
    "not_found": Code(404, "Not found"),
    "method_denied": Code(405, "The method is not allowed here"),
    "exists": Code(409, "The name is in use"),
    "store_required": Code(409, "This Sidekey has no store"),
    "read_only": Code(409, "The object is written in a config file"),
    "in_use": Code(409, "Presets use the integration"),
    "overlaps": Code(409, "Two integrations of one caller would cover the same target"),
    "sending": Code(409, "The send with this key is under way"),
    "changed": Code(412, "The object does not match If-Match or If-None-Match"),
    "too_large": Code(413, "The body is too large"),
    "unsupported": Code(415, "The body has a type that is not accepted"),
    "misdirected": Code(421, "The request is not for this listener"),
    "invalid": Code(422, "The content is not valid"),
    "reenter": Code(422, "Secrets must be entered again"),
    "key_reused": Code(422, "The Idempotency-Key was used for another send"),
    "precondition_required": Code(428, "The request needs If-Match, or If-None-Match to create"),
    "too_many": Code(429, "Too many requests"),
    "send_limit": Code(429, "The limit of your sends is reached"),
    "internal_error": Code(500, "A defect in Sidekey"),
    "store_unavailable": Code(503, "The store cannot be used now"),
    "stopping": Code(503, "Sidekey is stopping"),
    "oidc_unavailable": Code(503, "The issuer of the company log-in cannot be used now"),
}


FORBIDDEN: Final = "there is no preset of this ID that you may send"
"""Detail for an unknown preset and for one that was not granted: a sender must not be able to tell them apart."""


class ItemError(NamedTuple):
    """An error of the value at a JSON pointer (RFC 6901) in the body. A YAML body has `line` and `column`, from 1."""

    pointer: str
    detail: str
    line: int | None = None
    column: int | None = None

    def to_item(self) -> ProblemItem:
        """Build the item of the response, without unknown members."""
        return ProblemItem(**{key: value for key, value in self._asdict().items() if value is not None})


class ProblemItem(Section):
    """An error of one value."""

    pointer: str = Field(description="A JSON pointer (RFC 6901) into the document.")
    detail: str
    line: Annotated[int, Field(ge=1)] = Field(default=0, description="The line in a YAML body.")
    column: Annotated[int, Field(ge=1)] = Field(default=0, description="The column in a YAML body.")


class Problem(Section):
    """RFC 9457. It never repeats a value of the request."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemItem] = Field(default=[], description="All errors of the body.")
    presets: list[str] = Field(default=[], description="For `in_use`: the IDs of the presets that use it.")


_MORE: Final = ItemError("", MORE_ERRORS)


class ApiProblem(Exception):
    """Ends a request with an error response, whose `code` is in `CODES`.

    The response contains `detail` and `errors`, so they must not repeat a value of the request or the message of a
    library. `presets` are IDs of presets, for the code `in_use`.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Iterable[ItemError] = (),
        presets: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.presets = tuple(presets)
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """The status of the response."""
        return CODES[self.code].status

    def to_body(self) -> Problem:
        """Build the body of the response, with a new `instance` that a log can name."""
        optional: dict[str, Any] = {"errors": [error.to_item() for error in self.errors], "presets": list(self.presets)}
        return Problem(
            type=f"urn:sidekey:problem:{self.code}",
            title=CODES[self.code].title,
            status=self.status,
            detail=self.detail,
            instance=f"urn:sidekey:request:{secrets.token_hex(8)}",
            code=self.code,
            **{key: value for key, value in optional.items() if value},
        )


def invalid(errors: Iterable[ItemError]) -> ApiProblem:
    """Return 422 with these errors."""
    items = limit_errors(errors)
    counted = "one value is" if len(items) == 1 else f"{len(items)} values are"
    if len(items) > MAX_ERRORS:
        counted = f"more than {MAX_ERRORS} values are"
    return ApiProblem("invalid", f"{counted} not valid: see errors", errors=items)


def limit_errors(errors: Iterable[ItemError], more: ItemError = _MORE) -> tuple[ItemError, ...]:
    """Remove duplicates, and cut the list to `MAX_ERRORS` items followed by `more`."""
    unique = dict.fromkeys(errors)
    is_cut = more in unique
    unique.pop(more, None)
    first = tuple(islice(unique, MAX_ERRORS))
    return (*first, more) if is_cut or len(unique) > len(first) else first


def not_found() -> ApiProblem:
    """Return 404."""
    return ApiProblem("not_found", "nothing has this name")
