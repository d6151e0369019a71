"""POST by httpx, which takes its proxy from the environment. Arguments: URL [ID]."""

import sys

import httpx

headers = {"X-Integration-Id": sys.argv[2]} if len(sys.argv) > 2 else {}
response = httpx.post(sys.argv[1], json={"n": 1}, headers=headers, timeout=60)
print(response.text, response.status_code)
