"""A batch through the whole house: a file in, a file out, by the real worker."""

from __future__ import annotations

import json
import time
from typing import Final

from openai import OpenAI

from tests.whole.conftest import MODEL

CHAT: Final = "/v1/chat/completions"


def test_a_batch_says_what_the_live_endpoint_says(client: OpenAI) -> None:
    bodies = [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"What is {n} plus {n}?"}],
            "temperature": 0,
            "max_tokens": 12,
        }
        for n in range(1, 4)
    ]
    lines = [
        {"custom_id": f"sum {n}", "method": "POST", "url": CHAT, "body": body}
        for n, body in enumerate(bodies)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("sums.jsonl", data), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, f"it is {batch.status}"
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.output_file_id is not None
    told = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [each["custom_id"] for each in told] == ["sum 0", "sum 1", "sum 2"]
    for body, each in zip(bodies, told, strict=True):
        live = client.chat.completions.create(**body)  # type: ignore[call-overload]
        answer = each["response"]["body"]
        assert answer["choices"][0]["message"]["content"] == live.choices[0].message.content
        assert answer["usage"]["completion_tokens"] == live.usage.completion_tokens
