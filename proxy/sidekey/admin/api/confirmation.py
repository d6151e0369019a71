"""Confirmation of a privileged change: an unattended browser must not grant access or read a new token."""

from __future__ import annotations

import time
from typing import Final

from pydantic import Field

from sidekey.admin.api.operators import Operator
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.admin.api.resources import Body

_FRESH: Final = 600
"""Seconds after a company log-in in which it confirms a change."""


class Confirmation(Body):
    """A body that confirms the operator."""

    own_token: str = Field(
        default="",
        repr=False,
        description="The token of this request, again. Required, except in a session of a company log-in: the person "
        "must have logged in within the last ten minutes.",
        json_schema_extra={"writeOnly": True},
    )


def require_confirmation(operator: Operator, sent: Confirmation) -> None:
    """Raise ApiProblem unless the operator has just proved who they are."""
    if operator.auth_at is None:
        if "own_token" not in sent.model_fields_set:
            raise invalid([ItemError("/own_token", "this key is missing")])
        if not operator.owns(sent.own_token):
            raise ApiProblem("forbidden", "own_token must be the token that this request is sent with")
    elif operator.auth_at <= time.time() - _FRESH:
        raise ApiProblem("login_again", "log in again first: this needs a log-in of the last ten minutes")
