"""The schemes that have a name, each with the page that says so."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidekey.credentials.signatures.scheme import Scheme


def _standard(prefix: str, source: str) -> Scheme:
    """Standard Webhooks, which came of Svix: the two differ by the names of their headers."""
    return Scheme(
        source=source,
        signed="{id}.{timestamp}.{body}",
        encoding="base64",
        each="v1,{signature}",
        asymmetric="v1a,{signature}",
        join=" ",
        headers={
            f"{prefix}-id": "{id}",
            f"{prefix}-timestamp": "{timestamp}",
            f"{prefix}-signature": "{signatures}",
        },
    )


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "standard-webhooks": _standard(
            "webhook", "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"
        ),
        "svix": _standard("svix", "https://docs.svix.com/receiving/verifying-payloads/how-manual"),
        "convoy": Scheme(
            source="https://getconvoy.io/docs/product-manual/signatures",
            signed="{timestamp},{body}",
            each="v1={signature}",
            headers={"X-Convoy-Signature": "t={timestamp},{signatures}"},
        ),
        "github": Scheme(
            source="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
            signed="{body}",
            headers={"X-Hub-Signature-256": "sha256={signature}"},
        ),
        "slack": Scheme(
            source="https://docs.slack.dev/authentication/verifying-requests-from-slack",
            signed="v0:{timestamp}:{body}",
            headers={
                "X-Slack-Request-Timestamp": "{timestamp}",
                "X-Slack-Signature": "v0={signature}",
            },
        ),
        "stripe": Scheme(
            source="https://docs.stripe.com/webhooks/signature",
            signed="{timestamp}.{body}",
            each="v1={signature}",
            headers={"Stripe-Signature": "t={timestamp},{signatures}"},
        ),
        "shopify": Scheme(
            source="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
            signed="{body}",
            encoding="base64",
            headers={"X-Shopify-Hmac-Sha256": "{signature}"},
        ),
    }
)
"""By the name that `scheme` has in a config."""
