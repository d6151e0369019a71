"""POST by requests, which takes its proxy from the environment. Arguments: URL [ID]."""

import sys

import requests

headers = {"X-Integration-Id": sys.argv[2]} if len(sys.argv) > 2 else {}
response = requests.post(sys.argv[1], json={"n": 1}, headers=headers, timeout=60)
print(response.text, response.status_code)
