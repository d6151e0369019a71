"""Confirmation of a privileged change: an unattended browser must not grant access or read a new token."""

from __future__ import annotations

from pydantic import Field

from sidekey.admin.api.operators import Operator
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.resources import Body


class Confirmation(Body):
    """A body that confirms the operator."""

    own_token: str = Field(
        repr=False, description="The token of this request, again.", json_schema_extra={"writeOnly": True}
    )


def require_confirmation(operator: Operator, sent: Confirmation) -> None:
    """Raise ApiProblem unless the operator has sent its own token again."""
    if not operator.owns(sent.own_token):
        raise ApiProblem("forbidden", "own_token must be the token that this request is sent with")
