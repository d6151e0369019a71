"""The OpenAI SDK, with a key of any word: Sidekey replaces it."""

import os
from collections.abc import Iterable

from openai import OpenAI

from cases import BASE, LARGE, SMALL, digest, run

os.environ["OPENAI_BASE_URL"] = f"{BASE}/v1"
client = OpenAI(api_key="any word")
MESSAGES = [{"role": "user", "content": SMALL.decode()}]


def upload() -> str:
    with LARGE.open("rb") as file:
        return client.files.create(file=file, purpose="batch").id


def stream() -> Iterable[str]:
    for chunk in client.chat.completions.create(model="small", messages=MESSAGES, stream=True):
        yield chunk.choices[0].delta.content


run(
    get=lambda: client.models.list().data[0].id,
    post=lambda: client.chat.completions.create(model="small", messages=MESSAGES).choices[0].message.content,
    download=lambda: digest(client.files.content("large").iter_bytes()),
    upload=upload,
    events=stream,
)
