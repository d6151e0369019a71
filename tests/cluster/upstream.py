"""An https upstream that responds with the sender of the request and its ID, after `?ms=` milliseconds.

Usage: upstream.py PORT CERTIFICATE KEY
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import sys

from aiohttp import web


async def respond(request: web.Request) -> web.Response:
    """Describe one request."""
    body = await request.read()
    await asyncio.sleep(int(request.query.get("ms", "0")) / 1000)
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    sender = base64.b64decode(value).decode() if scheme == "Basic" else ""
    received = {"sender": sender, "id": request.headers.get("X-Id", ""), "bytes": len(body)}
    return web.json_response(received)


def main() -> None:
    """Serve until a signal ends the process."""
    port, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", respond)
    web.run_app(app, port=int(port), ssl_context=context, access_log=None, shutdown_timeout=2)


if __name__ == "__main__":
    main()
