"""No process writes a prompt, an answer or a key into its log."""

from __future__ import annotations

import httpx

from bench.stack import Stack
from tests.whole.conftest import MODEL

SECRET = "nobody-else-may-read-this"


def test_no_log_of_any_process_holds_what_was_asked(server: Stack) -> None:
    body = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": SECRET}]}
    with httpx.Client(base_url=server.url, timeout=60, headers={"Authorization": f"Bearer {SECRET}"}) as http:
        whole = http.post("/v1/chat/completions", json=body)
        assert whole.status_code == 200
        assert http.post("/v1/chat/completions", json={**body, "stream": True}).status_code == 200
        long = {**body, "messages": [{"role": "user", "content": f"{SECRET} " * 1500}]}
        assert http.post("/v1/chat/completions", json=long).status_code == 400, "longer than the context"
        assert http.post("/v1/chat/completions", json={**body, "n": SECRET}).status_code == 400
        queued = http.post("/v1/jobs", json={**body, "max_tokens": 400, "metadata": {"for": SECRET}})
        assert http.post(f"/v1/jobs/{queued.json()['id']}/cancel").status_code == 200
    logs = [*server.data_dir.glob("logs/*"), server.data_dir / "up.log"]
    told = {log.name: log.read_text(errors="replace") for log in logs}
    assert {"api.log", "npu.log", "monitor.log"} <= set(told)
    assert [name for name, text in told.items() if SECRET in text] == []
