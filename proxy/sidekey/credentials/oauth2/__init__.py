"""OAuth 2.0: access tokens that a token endpoint issues (RFC 6749, RFC 6750, RFC 7523)."""
