"""Whether a policy can allow any target at all: proven by one that it allows, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sidekey.core import paths
from sidekey.core.policy import Domain, Policy, Prefix, judge
from sidekey.core.urls import Origin, Target

_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.~-]*")

_WORD: Final = "any"
"""A path segment that no forbidden path has: what is forbidden ends in names of endpoints."""


def passes(policy: Policy, rule: Prefix | Domain, *, learns: bool) -> bool:
    """Whether some target under one prefix, or at one domain, of the policy is allowed.

    `learns` says that each grant tells a base URL: then one that it may tell must be allowed as well.
    """
    # A path that is forbidden by itself leaves those beside it; below others there is nothing.
    below = tuple(each for each in policy.forbidden if each.below)
    if not learns and not below and not policy.path and (isinstance(rule, Domain) or _PLAIN.fullmatch(rule.path)):
        # Almost all of ten thousand: what is under a plain path has one reading.
        return _is_covered(policy, rule)
    policy = replace(policy, forbidden=below)
    bases = [*_learnable(policy)] if learns else []
    return any(_is_allowed(policy, target, bases, learns=learns) for target in _targets(policy, rule))


def _is_covered(policy: Policy, rule: Prefix | Domain) -> bool:
    """Whether each kind of rule that the policy has lets what another one is about pass."""
    if isinstance(rule, Domain):
        return not policy.prefixes
    return not policy.domains or any(domain.covers(rule.origin) for domain in policy.domains)


def learns_any(policy: Policy) -> bool:
    """Whether some base URL that a grant may tell is allowed."""
    return next(_learnable(policy), None) is not None


def _targets(policy: Policy, rule: Prefix | Domain) -> Iterator[Target]:
    """One target for each depth below a rule: all others there differ from one of them by names alone."""
    path = rule.path if isinstance(rule, Prefix) else ""
    if paths.under(policy.path, path):
        path = policy.path
    for rest in (f"/{_WORD}", f"/{_WORD}/{_WORD}", "" if path else "/"):
        yield Target(_origin(rule), path + rest, None)


def _origin(rule: Prefix | Domain) -> Origin:
    """An origin that a rule is about."""
    if isinstance(rule, Domain) and rule.wildcard:
        return rule.origin._replace(host=f"{_WORD}.{rule.origin.host}")
    return rule.origin


def _learnable(policy: Policy) -> Iterator[Prefix]:
    """Base URLs that a grant may tell (`parse_learnt`), one for each rule that allows one."""
    rules: list[Prefix | Domain] = [*policy.prefixes, *policy.domains]
    for rule in rules:
        base = Prefix(_origin(rule), "")
        if base.origin.scheme == "https" and base.origin.port == 443:
            try:
                policy.learn(base)
            except ValueError:
                continue
            yield base


def _is_allowed(policy: Policy, target: Target, bases: list[Prefix], *, learns: bool) -> bool:
    """Whether a target is allowed as it is sent, and after some base URL was learnt."""
    try:
        if not judge(policy, target).allowed:
            return False
        return not learns or any(judge(policy.learn(base), policy.move(target, base.origin)).allowed for base in bases)
    except paths.UnreadablePath:
        return False
