"""Signatures over requests, as receivers of webhooks check them: by templates, and by RFC 9421."""
