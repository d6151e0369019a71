"""Values: each has a case, and invalid ones are refused with path and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidekey.config import profiles
from support import helm, kubeschema
from support.profiles import auth_of
from tools import charts

PASTED = "hunter2-9f8e7d"
WITHOUT_CASE = {"enabled": "not read by the chart: it is for a parent's `condition`"}
"""Values that no case sets, with the reason."""

SECRETS = {
    "a password": ("config.integrations.crm.auth.password", PASTED, "file: /run/secrets"),
    "a password of digits": ("config.integrations.crm.auth.password", 98765432, "file: /run/secrets"),
    "an insecure value": ("config.integrations.crm.auth.password.insecure_value", PASTED, "file: /run/secrets"),
    "a client secret": ("config.integrations.crm.auth.client_secret", PASTED, "file: /run/secrets"),
    "a refresh token": (
        "config.integrations.crm.auth.grant",
        {"type": "refresh_token", "refresh_token": PASTED},
        "file: /run/secrets",
    ),
    "a private key": ("config.integrations.crm.auth.private_key", PASTED, "file: /run/secrets"),
    "a certificate with its key": ("config.integrations.crm.client_certificate.pem", PASTED, "file: /run/secrets"),
    "a passphrase": ("config.integrations.crm.client_certificate.key_passphrase", PASTED, "file: /run/secrets"),
    "an Authorization field": ("config.integrations.crm.auth.headers.Authorization", PASTED, "secret: REFERENCE"),
    "a secret field": ("config.integrations.crm.auth.headers.X-Key.secret", PASTED, "file: /run/secrets"),
    "an insecure field": ("config.integrations.crm.auth.headers.X-Key.secret.insecure_value", PASTED, "file: /run"),
    "a key of an assertion": (
        "config.integrations.crm.auth.grant",
        {"type": "jwt_bearer", "private_key": PASTED},
        "file: /run/secrets",
    ),
    "a secret in a token request": (
        "config.integrations.crm.auth.token_request.body.client_secret",
        PASTED,
        "file: /run/secrets",
    ),
    "a word that is no reference": ("config.integrations.crm.auth.password.secret", PASTED, "file: /run/secrets"),
    "an inline key": ("config.integrations.crm.auth.private_key.inline", PASTED, "file: /run/secrets"),
    "an insecure user name": ("config.integrations.crm.auth.username.insecure_value", PASTED, "file: /run/secrets"),
    "a field that says it is a token": ("config.integrations.crm.auth.headers.X-Api-Token", PASTED, "REFERENCE"),
    "a field that says it is a key": ("config.integrations.crm.auth.headers.Api-Key", PASTED, "REFERENCE"),
    "a secret of a provider's profile": ("config.integrations.crm.auth.key", PASTED, "file: /run/secrets"),
    "a header beside the token": ("config.integrations.crm.add.headers.X-Api-Key", PASTED, "secret: REFERENCE"),
    "a secret in a log-in": ("config.integrations.crm.auth.login.body.password", PASTED, "file: /run/secrets"),
    "a secret that signs": ("config.integrations.crm.signature.secret", PASTED, "file: /run/secrets"),
    "one of several that sign": ("config.integrations.crm.signature.secret", [PASTED], "file: /run/secrets"),
    "a key of the store": ("store.keys", [{"id": "k1", "key": PASTED}], "only the name of the Secret"),
    "a key of the store alone": ("store.keys", [PASTED], "the name of an existing Secret"),
    "keys of the store by name": ("store.keys", {"k1": PASTED}, "names of existing Secrets"),
    "a key of the store in place of its Secret": (
        "store.keys",
        [{"id": "k1", "secret": {"name": f"{PASTED}="}}],
        "the name of an existing Secret",
    ),
    "a key of the store beside its Secret": (
        "store.keys",
        [{"id": "k1", "secret": {"name": "sidekey-store", "value": PASTED}}],
        "only the name of the Secret",
    ),
    "the URL of a database": ("store.url", f"postgresql://sidekey:{PASTED}@db.example.com", "an existing Secret"),
    "the value of a URL": ("store.url.value", f"postgresql://sidekey:{PASTED}@db", "only the name of the Secret"),
    "a URL in place of its Secret": ("store.url.secret", f"postgresql://sidekey:{PASTED}@db", "an existing Secret"),
    "a URL of a database in the config": ("config.store.url", f"postgresql://sidekey:{PASTED}@db", "see store.url"),
    "keys of the store in the config": ("config.store.keys", [{"id": "k1", "key": PASTED}], "see store.keys"),
    "an operator's token": ("admin.tokens.ops.token", PASTED, "only the name of the Secret"),
    "an operator's token alone": ("admin.tokens.ops", PASTED, "the name of an existing Secret"),
    "operators' tokens in the config": ("config.admin.tokens", {"ops": {"token": PASTED}}, "see admin.tokens"),
    "a key in place of the console's Secret": (
        "console.tls",
        f"-----BEGIN PRIVATE KEY-----\n{PASTED}",
        "the name of an existing Secret",
    ),
    "a key beside the console's Secret": ("console.tls.key", PASTED, "left out"),
    "a key as the console's Secret": (
        "console.tls.secretName",
        f"-----BEGIN PRIVATE KEY-----\n{PASTED}",
        "the name of an existing Secret",
    ),
    "a key as the ingress's Secret": (
        "console.ingress.tlsSecretName",
        f"-----BEGIN PRIVATE KEY-----\n{PASTED}",
        "the name of an existing Secret",
    ),
    "a user and a password in a host": ("console.host", f"svc:{PASTED}@sidekey.example.com", "a host name"),
    "a password in a URL": (
        "config.integrations.crm.endpoint_prefix",
        f"https://svc:{PASTED}@crm.example.com",
        "a secret never stands in values",
    ),
    "a CA's key": ("config.ca.private_key", PASTED, "file: /run/secrets"),
    "a CA in place of its Secret": (
        "httpsProxy.caSecret",
        f"-----BEGIN PRIVATE KEY-----\n{PASTED}",
        "the name of an existing Secret",
    ),
    "a CA in place of what holds it": ("httpsProxy.extraRoots", [f"-----BEGIN KEY-----\n{PASTED}"], "where the PEM is"),
    "a CA in place of an extra root's Secret": (
        "httpsProxy.extraRoots",
        [{"secret": f"-----BEGIN PRIVATE KEY-----\n{PASTED}"}],
        "the name of an existing Secret",
    ),
    "a CA in place of an extra root's ConfigMap": (
        "httpsProxy.extraRoots",
        [{"configMap": f"-----BEGIN PRIVATE KEY-----\n{PASTED}"}],
        "the name of an existing ConfigMap",
    ),
    "a CA in place of an extra root's key": (
        "httpsProxy.extraRoots",
        [{"configMap": "company-ca", "key": f"-----BEGIN PRIVATE KEY-----\n{PASTED}"}],
        "a key of the Secret or ConfigMap",
    ),
    "a user and a password in place of an ID": ("httpsProxy.integration", f"crm:{PASTED}", "the ID of an integration"),
    "a token in place of an ID": ("httpProxy.integration", f"crm:{PASTED}", "the ID of an integration"),
    "secrets in the config": ("config.secrets", {"crm": PASTED}, "secrets"),
    "a value of an ExternalSecret": ("externalSecrets.0.data", [{"secretKey": "a", "value": PASTED}], "remoteRef"),
    "a variable's value in its source": ("env.0.valueFrom.value", PASTED, "secretKeyRef"),
    "a caller's token": ("callers.billing.token", PASTED, "secret: {name: ..., key: ...}"),
    "a caller's secret": ("callers.billing.secret", PASTED, "{name: SECRET, key: KEY}"),
    "a value beside a caller's Secret": ("callers.billing.secret.value", PASTED, "only the name of the Secret"),
    "an environment variable": ("env.0.value", PASTED, "secretKeyRef"),
    "a Secret's data": ("secrets.0.data", {"password": PASTED}, "only the name of the Secret"),
    "a Secret's text": ("secrets.0.stringData", {"password": PASTED}, "only the name of the Secret"),
    "a Secret's value": ("secrets.0.value", PASTED, "only the name of the Secret"),
}
"""Secrets that a user may paste: the path, the value, and a part of the message."""

FILE = {"file": "/run/secrets/crm/secret"}
BASIC: helm.Values = {"type": "basic", "username": "svc", "password": FILE}
OAUTH: helm.Values = {"type": "oauth2", "token_endpoint": "https://auth.example.com/token", "client_id": "me"}
LOGIN = {"url": "https://crm.example.com/login"}
SESSION: helm.Values = {"type": "session", "login": LOGIN, "token": {"from": "token"}}
AUTH_WITH: dict[str, helm.Values] = {
    "password": BASIC,
    "username": BASIC,
    "headers": {"type": "headers"},
    "key": {"type": "headers", "provider": "klaviyo"},
    "private_key": {"type": "jwt", "algorithm": "RS256"},
    "login": SESSION,
}
"""The `auth` of a kind that has a key, by key. The default kind is `oauth2`."""


def completed(values: helm.Values) -> helm.Values:
    """Add the other keys that the integration `crm` needs."""
    crm = values.get("config", {}).get("integrations", {}).get("crm")
    if crm is not None:
        auth = crm.get("auth", BASIC)
        crm["auth"] = merged(AUTH_WITH.get(next(iter(auth)), OAUTH), auth)
        crm |= {"signature": {"scheme": "github", **crm["signature"]}} if "signature" in crm else {}
    return values


def merged(below: Any, above: Any) -> Any:
    """Merge two values like Helm."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **above, **{key: merged(below[key], above[key]) for key in below.keys() & above.keys()}}
    return above


def mount(path: str) -> helm.Values:
    """Return values with an extra volume at a path."""
    return {"extraVolumes": [{"name": "a", "emptyDir": {}}], "extraVolumeMounts": [{"name": "a", "mountPath": path}]}


def variables(*names: str) -> helm.Values:
    """Return values with variables from a Secret."""
    return {"env": [{"name": name, "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}} for name in names]}


REFRESHING = {"type": "refresh_token", "refresh_token": FILE}


def with_auth(**auth: object) -> helm.Values:
    """Return a config with one integration that has these keys in `auth`."""
    return {"config": {"integrations": {"crm": {"auth": {**OAUTH, "client_secret": FILE, **auth}}}}}


KEYS = {"keys": [{"id": "k1", "secret": {"name": "sidekey-store"}}]}
DATABASE = {"url": {"secret": {"name": "sidekey-store"}}}
EMBEDDED = {"embedded": {"enabled": True}}
ONE: helm.Values = {"replicaCount": 1, "strategy": {"type": "Recreate"}}
TO_DATABASE: helm.Values = {"networkPolicy": {"database": {"to": [{"podSelector": {}}]}}}


def stored(values: helm.Values) -> helm.Values:
    """Add a store in PostgreSQL to values."""
    return {**values, **TO_DATABASE, "store": {**KEYS, **DATABASE}}


def embedded(values: helm.Values, **store: object) -> helm.Values:
    """Add a store in a volume of one pod to values."""
    return {**ONE, **values, "store": {**KEYS, **EMBEDDED, **store}}


def console(**values: object) -> helm.Values:
    """Return values of a console behind an ingress."""
    return {"console": {"host": "sidekey.example.com", "behindTls": True, **values}}


def https(**values: object) -> helm.Values:
    """Return values of HTTPS_PROXY with a CA from a Secret."""
    return {"httpsProxy": {"caSecret": "sidekey-ca", **values}}


ERRORS: dict[str, tuple[helm.Values, list[str]]] = {
    "no caller": ({"callers": None}, ["callers", "at least one caller", "or a store", "mode: none"]),
    "two pods with one file": (
        embedded({"replicaCount": 2}),
        ["replicaCount", "at most 1 with store.embedded", "set store.url"],
    ),
    "a rollout with two pods of one file": (
        embedded({"strategy": {"type": "RollingUpdate"}}),
        ["strategy.type", "Recreate with store.embedded", "set store.url"],
    ),
    "an autoscaler with one file": (
        embedded({"autoscaling": {"enabled": True}}),
        ["autoscaling.enabled", "false with store.embedded", "set store.url"],
    ),
    "a file in each sidecar": (
        embedded({"mode": "none"}),
        ["mode", "gateway with store.embedded, which is a volume of one pod", "set store.url"],
    ),
    "a store in two places": (
        embedded({}, **DATABASE),
        ["store.url", "left out with store.embedded.enabled", "a store is in one place"],
    ),
    "a store in no place": (
        {"store": KEYS},
        ["store.keys", "left out without a store", "store.url, or store.embedded.enabled"],
    ),
    "operators of no store": (
        {"admin": {"tokens": {"ops": {"secret": {"name": "a"}, "role": "admin"}}}},
        ["admin.tokens", "left out without a store", "store.url, or store.embedded.enabled"],
    ),
    "an operator without a role": (
        stored({"admin": {"tokens": {"ops": {"secret": {"name": "a"}}}}}),
        ["admin.tokens.ops", "role"],
    ),
    "a file without a key": (
        embedded({}, keys=[]),
        ["store.keys", "a store needs a key", "sidekey store new-key"],
    ),
    "a database without a key": (
        {"store": DATABASE},
        ["store.keys", "a store needs a key", "sidekey store new-key"],
    ),
    "keys that are null": (embedded({}, keys=None), ["store", "with keys", "sidekey store new-key"]),
    "one ID for two keys": (
        embedded({}, keys=[*KEYS["keys"], {"id": "k1", "secret": {"name": "another"}}]),
        ["store.keys", "two keys have the ID k1"],
    ),
    "an ID that is none": (embedded({}, keys=[{"id": "../k1", "secret": {"name": "a"}}]), ["store.keys.0.id"]),
    "a volume of many pods": (
        embedded({}, embedded={"enabled": True, "accessMode": "ReadWriteMany"}),
        ["store.embedded.accessMode", "ReadWriteOncePod"],
    ),
    "a size that is none": (embedded({}, embedded={"enabled": True, "size": "1 GB"}), ["store.embedded.size"]),
    "a database that the policy keeps away": (
        {"store": {**KEYS, **DATABASE}},
        ["networkPolicy.database.to", "must name the database of store.url", "networkPolicy.extraEgress"],
    ),
    "a parent proxy that the policy keeps away": (
        {"config": {"network": {"proxy": {"url": "http://10.1.2.3:3128"}}}},
        ["networkPolicy.parentProxy.to", "must name the proxy in config.network.proxy", "networkPolicy.extraEgress"],
    ),
    "a parent proxy of an integration that the policy keeps away": (
        {"config": {"integrations": {"crm": {"auth": BASIC, "proxy": {"url": "https://proxy.example.com:8443/"}}}}},
        ["networkPolicy.parentProxy.to", "must name the proxy in config.integrations.crm.proxy"],
    ),
    "a store's place in the config": ({"config": {"store": {"path": "/x"}}}, ["config.store.path", "store.embedded"]),
    "what the config says of no store": (
        {"config": {"store": {"audit": "90d"}}},
        ["config.store: must be omitted without a store", "store.url or store.embedded.enabled"],
    ),
    "TLS of the admin listener in the config": (
        {"config": {"admin": {"tls": {}}}},
        ["config.admin.tls", "beside config", "see console.tls"],
    ),
    "in the config, that a proxy is in front of it": (
        {"config": {"admin": {"behind_tls": True}}},
        ["config.admin.behind_tls", "belongs to the chart", "see console.behindTls"],
    ),
    "a console without a store": (
        console(),
        ["console.host: must be empty without a store", "set store.url or store.embedded.enabled"],
    ),
    "a console without TLS": (
        embedded(console(behindTls=False)),
        ["console: needs TLS", "console.tls.secretName", "console.behindTls: true", "or both"],
    ),
    "a console of a sidecar": (
        stored(console()) | {"mode": "none"},
        ["console.host: must be empty with mode: none", "run a gateway on the same store"],
    ),
    "TLS of no host": (
        embedded({"console": {"tls": {"secretName": "sidekey-console"}}}),
        ["console.host: must be the host name", "remove the other values of console"],
    ),
    "an ingress of no host": (
        embedded({"console": {"ingress": {"enabled": True}}}),
        ["console.host: must be the host name", "such as sidekey.example.com"],
    ),
    "a proxy in front of no host": (embedded({"console": {"behindTls": True}}), ["console.host: must be"]),
    "a URL in place of the host": (embedded(console(host="https://sidekey.example.com")), ["console.host", "without"]),
    "a host with a port": (embedded(console(host="sidekey.example.com:443")), ["console.host", "without"]),
    "a host with upper case": (embedded(console(host="Sidekey.example.com")), ["console.host", "lower case"]),
    "an address in place of the host": (embedded(console(host="10.1.2.3")), ["console.host", "no address"]),
    "every host below one": (embedded(console(host="*.example.com")), ["console.host", "a host name"]),
    "a number in place of an annotation": (
        embedded(console(ingress={"annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": 60}})),
        ["console.ingress.annotations"],
    ),
    "a mount over the console's certificate": (
        mount("/run/sidekey/console/x"),
        ["the console's certificate", "another"],
    ),
    "a mount over the store": (embedded(mount("/var/lib/sidekey/x")), ["the store", "another mountPath"]),
    "a mount over the store's keys": (mount("/run/sidekey/store/keys"), ["the store's keys", "another mountPath"]),
    "a mount over the operators' tokens": (mount("/run/sidekey/operators"), ["the operators' tokens", "another"]),
    "a mode of another chart": ({"mode": "sidecar"}, ["mode", "gateway", "none"]),
    "an unknown value": ({"replicas": 3}, ["replicas"]),
    "an own listener": ({"config": {"listen": {"proxy": "0.0.0.0:1"}}}, ["config.listen", "belong to the chart"]),
    "callers in the config": ({"config": {"callers": {}}}, ["config.callers", "beside config"]),
    "an open door": ({"config": {"allow_unauthenticated": True}}, ["allow_unauthenticated", "callers"]),
    "off, which is false": ({"config": {"log": {"access": False}}}, ["config.log.access", '"off"', "quotes"]),
    "a bare duration": ({"config": {"timeouts": {"drain": 5}}}, ["config.timeouts.drain"]),
    "a user name of digits": (
        {"config": {"integrations": {"crm": {"auth": {**BASIC, "username": 123}}}}},
        ["username", "quotes"],
    ),
    "the name of the chart's own file": (
        {"configSources": [{"name": "sidekey", "configMap": "team"}]},
        ["configSources", "sidekey", "another"],
    ),
    "one path for two Secrets": (
        {"secrets": [{"name": "a", "mountPath": "/run/x"}, {"name": "b", "mountPath": "/run/x"}]},
        ["secrets", "/run/x", "another mountPath"],
    ),
    "a Secret over the config": ({"secrets": [{"name": "a", "mountPath": "/etc/sidekey"}]}, ["/etc/sidekey"]),
    "a short digest": ({"image": {"digest": "sha256:abc"}}, ["image.digest"]),
    "no image": ({"image": {}}, ["image.repository", "Dockerfile", "registry.example.com/sidekey"]),
    "an image with its tag": ({"image": {"repository": "registry.example.com/sidekey:1"}}, ["image.repository"]),
    "a URL as image": ({"image": {"repository": "https://registry.example.com/sidekey"}}, ["image.repository"]),
    "a volume like Sidekey's": ({"extraVolumes": [{"name": "sidekey-config"}]}, ["extraVolumes", "sidekey-config"]),
    "two volumes of one name": ({"extraVolumes": [{"name": "a"}, {"name": "a"}]}, ["two volumes have the name a"]),
    "a volume without a name": ({"extraVolumes": [{"emptyDir": {}}]}, ["extraVolumes.0", "name"]),
    "a mount without a path": ({"extraVolumeMounts": [{"name": "a"}]}, ["extraVolumeMounts.0", "mountPath"]),
    "a mount over the config": (mount("/etc/sidekey"), ["extraVolumeMounts", "the config", "another mountPath"]),
    "one with a slash more": (mount("/etc/sidekey/"), ["extraVolumeMounts", "the config", "another mountPath"]),
    "one that goes around": (mount("/etc/x/../sidekey"), ["extraVolumeMounts", "the config", "another mountPath"]),
    "a mount over its parent": (mount("/run"), ["extraVolumeMounts", "/run", "another mountPath"]),
    "a mount over everything": (mount("/"), ["extraVolumeMounts", "another mountPath"]),
    "a mount in a Secret's": (mount("/run/secrets/crm/more"), ["extraVolumeMounts", "crm of secrets"]),
    "a mount over Sidekey's memory": (mount("/dev/shm"), ["extraVolumeMounts", "Sidekey's own memory"]),
    "a mount over the trust folder": (mount("/run/sidekey/trust"), ["extraVolumeMounts", "trust folder", "mountPath"]),
    "a mount in the CA's": (mount("/run/sidekey/ca/x"), ["extraVolumeMounts", "the CA", "another mountPath"]),
    "a gateway without a CA": (
        {"httpsProxy": {"matchByHost": True}},
        ["httpsProxy.caSecret: must name the Secret of a CA", "tls.crt and tls.key", "cert-manager"],
    ),
    "a gateway without a CA, by name": ({"httpsProxy": {"integration": "crm"}}, ["httpsProxy.caSecret", "a gateway"]),
    "two ways to name integrations": (
        https(integration="crm", matchByHost=True),
        ["httpsProxy: only one of integration and matchByHost", "remove"],
    ),
    "an integration that is none": (https(integration="crn"), ["httpsProxy.integration", "crn is not one of: crm"]),
    "Java without HTTPS_PROXY": (
        {"httpsProxy": {"java": True}},
        ["httpsProxy.java: has no effect without httpsProxy.caSecret", "remove"],
    ),
    "extra roots without HTTPS_PROXY": (
        {"httpsProxy": {"extraRoots": [{"configMap": "company-ca"}]}},
        ["httpsProxy.extraRoots: has no effect", "remove this"],
    ),
    "an extra root from nowhere": (https(extraRoots=[{"key": "ca.crt"}]), ["httpsProxy.extraRoots", "entry 1"]),
    "an extra root from two places": (
        https(extraRoots=[{"configMap": "a"}, {"configMap": "a", "secret": "b"}]),
        ["httpsProxy.extraRoots", "entry 2", "must name a configMap or a secret"],
    ),
    "a place for the CA of one's own": (
        {"config": {"ca": {"folder": "/x"}, "integrations": {"crm": {"auth": BASIC}}}, **https()},
        ["config.ca.folder: must be omitted with httpsProxy", "httpsProxy.caSecret"],
    ),
    "by host, and not": (
        {"config": {"forward": {"match_by_host": False}}, **https(matchByHost=True)},
        ["config.forward.match_by_host", "must not be false", "httpsProxy.matchByHost"],
    ),
    "HTTP_PROXY beside HTTPS_PROXY": (
        {"httpProxy": {"integration": "crm"}, **https()},
        ["httpProxy.integration: must be empty with httpsProxy", "remove it"],
    ),
    "two hosts that bypass the proxy as one": (
        {"httpProxy": {"noProxy": ["a.example,b.example"]}},
        ["httpProxy.noProxy.0", "one host for each entry"],
    ),
    "an unknown key": (https(folder="/x"), ["httpsProxy", "folder"]),
    "a Secret in the callers' tokens": (
        {"secrets": [{"name": "a", "mountPath": "/run/sidekey/callers/a/"}]},
        ["secrets", "the callers' tokens", "another mountPath"],
    ),
    "the chart's own variable": (variables("SIDEKEY_CONFIG"), ["env", "SIDEKEY_CONFIG", "another name"]),
    "a variable twice": (variables("CRM", "CRM"), ["env", "CRM", "another name"]),
    "a label that selects the pods": (
        {"podLabels": {"app.kubernetes.io/name": "x"}},
        ["podLabels", "app.kubernetes.io/name", "belongs to the chart"],
    ),
    "a label of the chart's on a monitor": (
        {"metrics": {"labels": {"app.kubernetes.io/instance": "x"}}},
        ["metrics.labels", "app.kubernetes.io/instance", "belongs to the chart"],
    ),
    "the annotation of the chart's": (
        {"podAnnotations": {"sidekey/listen": "x"}},
        ["podAnnotations", "sidekey/listen"],
    ),
    "more pods at least than at most": (
        {"autoscaling": {"enabled": True, "minReplicas": 11}},
        ["autoscaling", "minReplicas (11)", "maxReplicas (10)"],
    ),
    "a share of no CPU": (
        {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        ["autoscaling", "resources.requests.cpu"],
    ),
    "two pods with one live token": (
        with_auth(single_live_token=True) | {"replicaCount": 2},
        [
            "replicaCount: must be at most 1",
            "integration crm",
            "single_live_token",
            "set replicaCount: 1",
            "or store.url",
        ],
    ),
    "two pods with a refresh token that rotates": (
        with_auth(grant=REFRESHING),
        ["replicaCount: must be at most 1", "integration crm", "rotates: false", "Recreate"],
    ),
    "two pods with one that is said to rotate": (
        with_auth(grant={**REFRESHING, "rotates": True}),
        ["replicaCount: must be at most 1", "integration crm"],
    ),
    "a rollout with two pods": (
        with_auth(grant=REFRESHING) | {"replicaCount": 1},
        ["strategy.type: must be Recreate", "integration crm", "strategy.type: Recreate"],
    ),
    "an autoscaler with one live token": (
        with_auth(single_live_token=True) | {"replicaCount": 1, "autoscaling": {"enabled": True}},
        ["autoscaling.enabled: must be false", "integration crm", "autoscaling.enabled: false"],
    ),
    "another strategy": ({"strategy": {"type": "Ramped"}}, ["strategy.type", "RollingUpdate", "Recreate"]),
    "a word for true or false": (with_auth(single_live_token="no"), ["single_live_token", "boolean"]),
    "DNS at every port": ({"networkPolicy": {"dns": {"ports": []}}}, ["networkPolicy.dns.ports", "minItems"]),
    "a budget that lets no pod go": ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, ["maxUnavailable"]),
    "a peer that says nothing": ({"networkPolicy": {"clients": [{}]}}, ["networkPolicy.clients.0", "minProperties"]),
    "one port for requests and metrics": (
        {"metrics": {"monitor": "ServiceMonitor"}, "service": {"port": 15091}},
        ["service.port", "15091", "choose another"],
    ),
    "a policy that is null": ({"networkPolicy": None}, ["networkPolicy", "null", "{enabled: false}"]),
    "a switch that is null": ({"networkPolicy": {"enabled": None}}, ["networkPolicy", "enabled"]),
}
"""Invalid values, and words of the message."""


def nested(path: str, value: Any) -> Any:
    """Nest a value at a dotted path. The key 0 makes a list with one named item."""
    key, _, rest = path.partition(".")
    if not path:
        return value
    inner = nested(rest, value)
    if key == "0":
        return [{"name": "crm", **inner}]
    return {key: inner}


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every path into nested mappings with its value, also mappings."""
    yield path, values
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, (*path, key))


def test_every_value_has_a_case() -> None:
    """The case sets another value than the default, so that a golden file shows the effect."""
    default = {name: default for name, default, _ in charts.described_values()}
    with_case = {
        name
        for case in helm.cases()
        for path, value in leaves(helm.sidekey_values(case))
        if (name := ".".join(path)) in default and value != default[name]
    }
    assert default.keys() - with_case == WITHOUT_CASE.keys()


@cache
def invalid_values() -> dict[str, helm.Values]:
    """Return all values that the chart must refuse, by error."""
    gateway = helm.values_of("gateway")
    errors = {error: {**gateway, **values} for error, (values, _) in ERRORS.items()}
    secrets = {error: completed(nested(path, value)) for error, (path, value, _) in SECRETS.items()}
    mistakes = {error: values_with_mistake(error) for error in CONFIGS}
    assert not errors.keys() & secrets.keys() and not (errors.keys() | secrets.keys()) & mistakes.keys()
    return {**errors, **secrets, **mistakes}


def refusal(error: str) -> str:
    """Return the message with which the chart refuses values."""
    return helm.refusal(helm.CHART, invalid_values()[error])


@pytest.mark.parametrize("error", SECRETS)
def test_pasted_secret_is_refused(error: str) -> None:
    """The message has path and remedy, and does not repeat the secret."""
    path, _, remedy = SECRETS[error]
    message = refusal(error)
    assert path in message.replace("/", ".")
    assert remedy in message
    assert PASTED not in message
    assert "98765432" not in message


@pytest.mark.parametrize("error", ["a password", "an Authorization field", "a key of the store", "a caller's token"])
def test_pasted_secret_of_a_sidecar_is_refused(error: str, example: Any) -> None:
    """The schema also applies to the chart as a dependency."""
    path, value, remedy = SECRETS[error]
    message = helm.refusal(example, {"sidekey": completed(nested(path, value))})
    assert remedy in message
    assert PASTED not in message


@pytest.mark.parametrize("place", ["config", "config.integrations.crm", "config.integrations.crm.auth"])
def test_secret_at_an_unknown_key_is_not_repeated(place: str) -> None:
    message = helm.refusal(helm.CHART, completed(nested(f"{place}.passwd", PASTED)))
    assert f"/{place.replace('.', '/')}': additional properties 'passwd' not allowed" in message
    assert PASTED not in message


CONFIGS: dict[str, tuple[helm.Values, str, str]] = {
    "a misspelt key": (
        {"endpoint_prefx": "https://crm.example.com", "auth": BASIC},
        "",
        "additional properties 'endpoint_prefx' not allowed",
    ),
    "a misspelt provider": (
        {"auth": {**OAUTH, "provider": "comercetools"}},
        "/auth/provider",
        "value must be one of 'acoustic-campaign', 'adobe',",
    ),
    "a misspelt kind": ({"auth": {**BASIC, "type": "bearer"}}, "/auth/type", "value must be one of 'aws_sigv4',"),
    "a key of another kind": ({"auth": {**BASIC, "client_id": "me"}}, "/auth", "additional properties 'client_id'"),
    "no kind": ({"auth": {"username": "svc"}}, "/auth", "missing property 'type'"),
    "no auth": ({"description": "x"}, "", "missing property 'auth'"),
    "what a kind needs": ({"auth": {"type": "oauth2"}}, "/auth", "missing properties 'token_endpoint', 'client_id'"),
    "what a profile leaves": (
        {"auth": {"type": "oauth2", "provider": "commercetools", "region": "us-east-2.aws"}},
        "/auth",
        "missing property 'client_id'",
    ),
    "one method": ({"auth": BASIC, "methods": "GET"}, "/methods", "got string, want null or array"),
    "a mistake in a header": (
        {"auth": {"type": "headers", "headers": {"X-Key": {"secret": FILE, "prefx": "Bearer "}}}},
        "/auth/headers/X-Key",
        "additional properties 'prefx' not allowed",
    ),
    "a number for a text": ({"auth": BASIC, "description": 123}, "/description", "value must be 'a text in quotes"),
}
"""An integration, the path below it in the message, and the text of the message."""


def values_with_mistake(error: str) -> helm.Values:
    """Return values with an integration that has a mistake."""
    integration, _, _ = CONFIGS[error]
    return {"config": {"integrations": {"erp": integration}}}


@pytest.mark.parametrize("error", CONFIGS)
def test_mistake_in_the_config_is_refused_before_rendering(error: str) -> None:
    """The schema of values contains that of the config. It reports each mistake once, with its path."""
    _, place, words = CONFIGS[error]
    message = refusal(error)
    assert f"at '/config/integrations/erp{place}': {words}" in message
    assert message.count("at '/") == 1


@pytest.mark.parametrize("error", ["a misspelt key", "a misspelt provider"])
def test_mistake_in_the_config_of_a_sidecar_is_refused(error: str, example: Path) -> None:
    """The schema also applies to the chart as a dependency."""
    _, place, words = CONFIGS[error]
    assert f"at '/config/integrations/erp{place}': {words}" in helm.refusal(
        example, {"sidekey": values_with_mistake(error)}
    )


def test_section_of_the_config_may_be_empty() -> None:
    """An empty section counts as missing."""
    schema = json.loads((helm.ROOT / "config" / "schema.json").read_text("utf-8"))
    sections = schema["properties"].keys() - {"version", "listen", "callers", "allow_unauthenticated", "via"}
    values = {**helm.values_of("gateway-https-proxy"), "config": dict.fromkeys(sections)}
    assert len(sections) > 9
    rendered = helm.files(helm.CHART, values)
    assert "Sidekey denies hosts" in rendered["sidekey/templates/NOTES.txt"]
    assert yaml.safe_load(helm.config_of(helm.parsed(rendered)))["forward"] == {"match_by_host": True}


def test_notes_send_no_websocket_past_sidekey() -> None:
    """It works in a tunnel, with the credential. gRPC does not."""
    notes = helm.files(helm.CHART, helm.values_of("gateway-https-proxy"))["sidekey/templates/NOTES.txt"]
    assert "hosts of gRPC" in notes
    assert "WebSocket" not in notes


EXAMPLES = sorted((helm.ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_config_renders(path: Path) -> None:
    """Keys that belong to the chart and plaintext secrets are left out."""
    example_config = helm.library().values_from_yaml(path.read_text("utf-8").replace("insecure_value", "file"))
    config = {
        key: value for key, value in example_config.items() if key in {"integrations", "presets", "network", "timeouts"}
    }
    reachable = {"networkPolicy": {"parentProxy": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}}}
    values = {**helm.values_of("gateway"), **ONE, **reachable, "config": config}
    config_of_chart = helm.config_of(helm.objects(helm.CHART, values))
    assert yaml.safe_load(config_of_chart)["integrations"] == config["integrations"]


@pytest.mark.parametrize("error", ERRORS)
def test_invalid_value_is_refused_with_its_path(error: str) -> None:
    """The message also has the remedy."""
    _, words = ERRORS[error]
    message = refusal(error).replace("/", ".")
    assert [word for word in words if word.replace("/", ".") not in message] == []


@pytest.mark.parametrize(
    "values",
    [
        with_auth(grant={**REFRESHING, "rotates": False}),
        with_auth(grant="client_credentials", single_live_token=False),
        with_auth(grant=REFRESHING) | {"replicaCount": 1, "strategy": {"type": "Recreate"}},
        with_auth(grant=REFRESHING) | {"replicaCount": 0, "strategy": {"type": "Recreate"}},
        {"replicaCount": 3, "strategy": {"type": "Recreate"}},
        stored(with_auth(grant=REFRESHING, single_live_token=True)) | {"replicaCount": 3},
        stored(with_auth(single_live_token=True)) | {"autoscaling": {"enabled": True}},
        embedded(with_auth(grant=REFRESHING, single_live_token=True)),
    ],
    ids=[
        *("stays valid", "many tokens", "one pod", "no pod", "recreated"),
        *("shared in a database", "shared by an autoscaler's pods", "one pod with a file"),
    ],
)
def test_tokens_of_one_process_are_accepted_where_one_process_uses_them(values: helm.Values) -> None:
    """One pod, a store, or another setting of the token is valid."""
    assert helm.of_kind(helm.objects(helm.CHART, {**helm.values_of("gateway"), **values}), "Deployment")


@pytest.mark.parametrize(
    ("values", "one"),
    [
        (with_auth(single_live_token=True) | ONE, True),
        (embedded(with_auth(single_live_token=True)), True),
        (stored(with_auth(single_live_token=True)), False),
    ],
    ids=["no store", "a file", "a database"],
)
def test_notes_name_tokens_that_only_one_process_may_use(values: helm.Values, one: bool) -> None:
    """Operators with a second Sidekey need this. Processes with a database share the tokens."""
    rendered = helm.files(helm.CHART, {**helm.values_of("gateway"), **values})
    assert ("Only one process may use crm" in rendered["sidekey/templates/NOTES.txt"]) is one


@pytest.mark.parametrize(
    "empty",
    [
        {"store": None, "admin": None, "console": None},
        {"console": {"host": None, "tls": None, "behindTls": None, "service": None, "ingress": None}},
        {"console": {"ingress": {"enabled": None, "annotations": None}}, "networkPolicy": {"console": None}},
        {"store": {"keys": None, "url": None, "embedded": None}, "admin": {"tokens": None}},
        {"store": {"embedded": {"enabled": None}}, "networkPolicy": {"database": None}},
        {"networkPolicy": {"database": {"to": [{"podSelector": {}}]}}},
    ],
    ids=[
        *("null", "a console of nothing", "an ingress of nothing"),
        *("null within", "null far within", "a database of nobody's"),
    ],
)
def test_without_a_store_no_object_mentions_one(empty: helm.Values) -> None:
    """There is no volume, no rule of the policy, and no key of the config."""
    without = helm.files(helm.CHART, {**helm.values_of("gateway"), **empty})
    assert without == helm.files(helm.CHART, helm.values_of("gateway"))


def test_config_keeps_its_keys_of_a_store() -> None:
    """The keys for the audit and for private networks stay beside those of the chart."""
    config_of_chart = yaml.safe_load(helm.config_of(helm.objects(helm.CHART, helm.values_of("gateway-store"))))["store"]
    assert (config_of_chart["audit"], config_of_chart["allow_private"]) == ("90d", ["10.20.0.0/16"])
    assert config_of_chart.keys() == {"audit", "allow_private", "keys", "url"}


def test_gateway_with_a_store_needs_no_caller_in_its_values() -> None:
    """The callers are in the store. A store without callers admits nobody."""
    objects = helm.objects(helm.CHART, helm.values_of("gateway-embedded"))
    assert "callers" not in yaml.safe_load(helm.config_of(objects))


@pytest.mark.parametrize("empty", [None, {}, {"integration": "", "matchByHost": False}, {"integration": None}])
def test_without_https_proxy_there_is_no_ca(empty: helm.Values | None) -> None:
    """The value may be null, empty, or contain null."""
    values = {**helm.values_of("gateway"), "httpsProxy": empty}
    assert helm.files(helm.CHART, values) == helm.files(helm.CHART, helm.values_of("gateway"))


def test_config_keeps_ca_hosts() -> None:
    """`ca.hosts` is the only key of `ca` that is not a path."""
    values = {**helm.values_of("gateway"), **https(), "config": {"ca": {"hosts": ["a.example.com"]}}}
    config_of_chart = yaml.safe_load(helm.config_of(helm.objects(helm.CHART, values)))["ca"]
    assert config_of_chart["hosts"] == ["a.example.com"]
    assert config_of_chart.keys() == {"hosts", "certificate", "private_key", "trust_folder"}


def test_sidecar_may_have_tokens_of_one_process(example: Path) -> None:
    """The chart does not know the number of the service's pods. Its notes state the condition."""
    values = with_auth(single_live_token=True) | {"mode": "none", "image": helm.values_of("gateway")["image"]}
    assert "run one pod of the service" in helm.files(helm.CHART, values)["sidekey/templates/NOTES.txt"]
    assert "run one pod of the service" not in helm.files(helm.CHART, stored(values))["sidekey/templates/NOTES.txt"]
    auth = {**OAUTH, "client_secret": FILE, "grant": REFRESHING}
    refreshing = {"config": {"integrations": {"orders": {"auth": auth}}}}
    assert helm.of_kind(helm.objects(example, {"sidekey": refreshing}), "Deployment")


def test_chart_knows_providers_with_tokens_of_one_process() -> None:
    """The chart sees the keys of an integration, but not those of its profile."""
    gateway = {**helm.values_of("gateway"), "replicaCount": 2}
    by_name = {name: profiles.profile(name) for name in profiles.provider_names()}
    single = {name for name, profile in by_name.items() if profile.auth.get("single_live_token") is True}
    assert single
    for name in single:
        own = auth_of(name)
        values = {**gateway, "config": {"integrations": {"crm": {"auth": own}}}}
        assert f"single_live_token, by the provider {name}" in helm.refusal(helm.CHART, values)
        own["single_live_token"] = False
        assert helm.files(helm.CHART, values)
    for optional in (False, True):
        others = {name: {"auth": auth_of(name, optional=optional)} for name in by_name if name not in single}
        assert helm.files(helm.CHART, {**gateway, "config": {"integrations": others}})
    for value in by_name.values():
        assert "refresh_token" not in value.secrets or value.auth["grant"]["rotates"] is False


EVERY = {
    ".".join(path): value
    for path, value in leaves(yaml.safe_load((helm.CHART / "values.yaml").read_text("utf-8")))
    if path and not {"requests", "limits", "grafana_dashboard"} & set(path)
}
"""The default of every value and of every mapping of values, by path."""

EMPTY: dict[type, Any] = {str: "", list: [], dict: {}}
UNLIKE_EMPTY = {
    "enabled": "not read by the chart",
    "resources": "Helm merges {} with the default, so only null removes the default",
    "dashboard.labels": "Helm merges {} with the default, so only null removes the default",
    "runAsUser": "null and 0 mean that the platform chooses the user",
}
"""Values that may be null, but for which null and empty differ, with the reason."""

SWITCHED_ON: helm.Values = {
    "autoscaling": {"enabled": True},
    "metrics": {"monitor": "PodMonitor"},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}


def switched_on(path: str, value: Any) -> helm.Values:
    """Values with all optional features, and `value` at a path."""
    values = {**helm.values_of("gateway"), **deepcopy(SWITCHED_ON)}
    if path.startswith("resources"):
        values.pop("autoscaling")
    *above, last = path.split(".")
    inner = values
    for key in above:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return values


@pytest.mark.parametrize("path", EVERY)
def test_null_is_the_same_as_empty_or_is_refused(path: str) -> None:
    """Helm removes a null value. If a value is required, the message names it."""
    try:
        rendered = helm.files(helm.CHART, switched_on(path, None))
    except helm.library().HelmError as error:
        message = str(error)
        assert path.rpartition(".")[2] in message
        assert "nil pointer" not in message
        assert "executing" not in message
        return
    assert [
        error
        for resource in helm.parsed(rendered)
        if helm.is_built_in(resource)
        for error in kubeschema.errors(resource)
    ] == []
    empty = EMPTY.get(type(EVERY[path]))
    if empty is not None and path not in UNLIKE_EMPTY:
        assert rendered == helm.files(helm.CHART, switched_on(path, empty))


@pytest.mark.parametrize(
    "path",
    [
        *("config", "callers", "caller", "httpProxy.noProxy", "httpProxy.integration", "env", "httpsProxy"),
        *(f"httpsProxy.{name}" for name in ("integration", "matchByHost", "java", "extraRoots", "caSecret")),
    ],
)
def test_null_does_not_break_a_sidecar(path: str, example: Path) -> None:
    """Users may leave a key without a value."""
    values = nested(path, None) | {"configSources": [{"name": "a", "configMap": "a"}]}
    assert helm.of_kind(helm.objects(example, {"sidekey": values}), "Deployment")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "gateway", "callers": {"a": {"secret": {"name": "a"}}}}, ["mode", "none"]),
        (
            {"httpProxy": {"integration": "crn"}, "httpsProxy": None},
            ["httpProxy.integration", "crn", "crm"],
        ),
        ({"httpsProxy": {"integration": "crn"}}, ["httpsProxy.integration", "crn", "crm"]),
        ({"httpsProxy": {"caSecret": "ca"}}, ["httpsProxy.caSecret", "must be empty", "makes its own CA", "remove it"]),
        (
            {"httpsProxy": {"integration": "", "java": True}},
            ["httpsProxy.java: has no effect without httpsProxy.integration or httpsProxy.matchByHost"],
        ),
        ({"httpsProxy": {"matchByHost": True}}, ["httpsProxy: only one of integration and matchByHost"]),
        ({"httpProxy": {"integration": "crm"}}, ["httpProxy.integration: must be empty with httpsProxy"]),
        ({"callers": {"a": {"secret": {"name": "a"}}}}, ["caller", "a"]),
        ({"caller": "a"}, ["caller", "must be in callers"]),
        (stored({}), ["caller: must be set with a store", "every request then needs a token"]),
        ({"metrics": {"monitor": "ServiceMonitor"}}, ["metrics.monitor", "PodMonitor"]),
    ],
    ids=[
        *("mode", "integration", "integration of HTTPS_PROXY", "CA", "Java", "two ways", "two proxies"),
        *("caller missing", "callers missing", "caller missing for a store", "monitor"),
    ],
)
def test_sidecar_values_that_contradict_the_config_are_refused(
    values: helm.Values, words: list[str], example: Any
) -> None:
    """The variables of the service must match Sidekey's config."""
    message = helm.refusal(example, {"sidekey": values})
    assert [word for word in words if word not in message] == []


def test_schema_has_exactly_the_values() -> None:
    """The schema admits only keys of values.yaml."""
    with helm.library().Chart.load(helm.CHART) as chart:
        schema = chart.schema
    assert schema is not None
    default = yaml.safe_load((helm.CHART / "values.yaml").read_text("utf-8"))
    assert schema["properties"].keys() - {"global"} == default.keys()
    assert schema["additionalProperties"] is False
    for name, value in default.items():
        inner = schema["properties"][name]
        if inner.get("additionalProperties") is False:
            assert inner["properties"].keys() == value.keys()
