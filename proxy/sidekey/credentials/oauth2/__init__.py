"""OAuth 2.0: access tokens from a token endpoint (RFC 6749, RFC 6750, RFC 7523)."""
