"""What is added beside a credential: headers, query parameters and body fields, public or secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict

from sidekey.credentials.base import Findings, Grant, SupplementSettings
from sidekey.credentials.fields import Keys
from sidekey.credentials.injected import InjectedSettings


class AddedSettings(InjectedSettings, SupplementSettings):
    """Headers, query parameters and body fields that Sidekey adds to each request, besides the credential."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    SECTION: ClassVar[str] = "add"

    @classmethod
    def find_warnings_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Secrets that are written as public text."""
        yield from cls.find_public(raw)

    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """The values in the order of the file."""
        return self.grant(values)
