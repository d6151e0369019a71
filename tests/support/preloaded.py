"""Imported once by the process that Sidekeys are forked from: has all that one imports or makes at a first use."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from sidekey.admin.console.form.forms import form_for
from sidekey.admin.console.render import renderer
from sidekey.admin.console.static_files import files
from sidekey.cli import COMMANDS
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles

_MODULES: Final = (
    "certifi",
    "click._textwrap",
    "cryptography.hazmat.backends.openssl.backend",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.serialization.pkcs12",
    "encodings.ascii",
    "encodings.idna",
    "encodings.unicode_escape",
    "encodings.utf_16_be",
    "sidekey.admin.api.openapi",
    "sidekey.admin.api.table",
    "sidekey.admin.extension",
    "sidekey.app",
    "sidekey.authority.certificates",
    *(f"sidekey.cli.{each.module}" for each in COMMANDS.values()),
    "sidekey.cli.check_urls",
    "sidekey.credentials.certificates.material",
    "sidekey.credentials.oauth2.assertion",
    "sidekey.credentials.signatures.private_keys",
    "sidekey.managed",
    "sidekey.sources.certificates.service",
    "sidekey.store.postgres",
    "sidekey.store.sqlite",
    "uvloop",
)
"""What is imported where it is used, and what imports that."""

for _name in _MODULES:
    import_module(_name)

# What a process keeps once it has made it.
files()
_templates = renderer()._environment
for _name in _templates.list_templates():
    _templates.get_template(_name)
for _kind in KINDS:
    form_for(_kind)
for _provider in profiles.names():
    form_for(profiles.profile(_provider).kind, _provider)
