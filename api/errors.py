"""What an error looks like over HTTP: one table from codes to statuses, and OpenAI's envelope around them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

from tasks.errors import Busy, JobError
from tasks.events import Cancelled, Expired, Failed


@dataclass(frozen=True, slots=True)
class Form:
    """How one code is told: HTTP status, the envelope's ``type``, whether a client should ask again unasked.

    ``auto_retry`` None leaves it to the client's own rule. The official SDK retries 408, 409, 429 and 5xx
    unless ``x-should-retry`` says otherwise (openai-python ``_base_client.py``, 3.54).
    """

    status: int
    type: str
    auto_retry: bool | None = None
    retry_after_s: int | None = None


_REQUEST = Form(400, "invalid_request_error")

FORMS: dict[str, Form] = {
    # Codes of tasks/errors.py.
    "job_error": Form(500, "server_error"),
    "invalid_request": _REQUEST,
    "model_not_found": Form(404, "not_found_error"),
    "model_unusable": _REQUEST,
    "context_length_exceeded": _REQUEST,
    "unsupported_value": _REQUEST,
    "size_unsupported": _REQUEST,
    "invalid_image": _REQUEST,
    "queue_full": Form(429, "rate_limit_error", retry_after_s=5),
    "rate_limit_exceeded": Form(429, "rate_limit_error"),
    # Asked again by itself the same client would only be refused again.
    "would_time_out": Form(429, "rate_limit_error", auto_retry=False, retry_after_s=5),
    "starting": Form(503, "server_error", retry_after_s=2),
    "idempotency_conflict": Form(409, "conflict_error", auto_retry=False),
    "deadline_exceeded": Form(504, "timeout_error", auto_retry=False),
    # The job has taken its worker down several times: an automatic retry would only do it again.
    "worker_lost": Form(500, "server_error", auto_retry=False),
    "engine_error": Form(500, "server_error"),
    "load_failed": Form(503, "server_error", retry_after_s=10),
    "card_unavailable": Form(503, "server_error", retry_after_s=30),
    "disk_full": Form(507, "server_error", auto_retry=False),
    "internal_error": Form(500, "server_error", auto_retry=False),
    # Codes of this room.
    "invalid_json": _REQUEST,
    "invalid_form": _REQUEST,
    "invalid_type": _REQUEST,
    "invalid_value": _REQUEST,
    "image_too_large": _REQUEST,
    "missing_required_parameter": _REQUEST,
    "invalid_api_key": Form(401, "authentication_error"),
    "file_gone": Form(410, "not_found_error"),
    "file_not_found": Form(404, "not_found_error"),
    "file_in_use": Form(409, "conflict_error", auto_retry=False),
    "too_many_files": _REQUEST,
    "files_full": Form(507, "server_error", auto_retry=False),
    "picture_gone": Form(410, "not_found_error"),
    "picture_not_found": Form(404, "not_found_error"),
    "picture_not_ready": Form(409, "conflict_error", retry_after_s=1),
    "vectors_not_found": Form(404, "not_found_error"),
    "vectors_not_ready": Form(409, "conflict_error", retry_after_s=1),
    "job_unreadable": Form(500, "server_error", auto_retry=False),
    "batch_not_found": Form(404, "not_found_error"),
    "permission_denied": Form(403, "permission_error"),
    "host_not_allowed": Form(403, "permission_error"),
    "origin_not_allowed": Form(403, "permission_error"),
    "job_not_found": Form(404, "not_found_error"),
    "response_not_found": Form(404, "not_found_error"),
    "response_not_ended": Form(409, "conflict_error", auto_retry=False),
    "stream_gone": Form(410, "not_found_error", auto_retry=False),
    "sampler_not_found": Form(404, "not_found_error"),
    "model_busy": Form(409, "conflict_error", auto_retry=False),
    "package_busy": Form(409, "conflict_error", auto_retry=False),
    "package_refused": _REQUEST,
    "storage_failed": Form(500, "server_error", auto_retry=False),
    "not_supported": Form(501, "invalid_request_error", auto_retry=False),
    "webhook_not_allowed": _REQUEST,
    "webhook_not_found": Form(404, "not_found_error"),
    "webhook_unreached": Form(502, "server_error", auto_retry=False),
    "unknown_url": Form(404, "not_found_error"),
    "endpoint_retired": Form(410, "invalid_request_error"),
    "method_not_allowed": Form(405, "invalid_request_error"),
    "request_timeout": Form(408, "invalid_request_error", auto_retry=False),
    "payload_too_large": Form(413, "invalid_request_error"),
    "unsupported_media_type": Form(415, "invalid_request_error"),
    "job_cancelled": Form(409, "conflict_error", auto_retry=False),
    "queue_unavailable": Form(503, "server_error", retry_after_s=2),
    "shutting_down": Form(503, "server_error", retry_after_s=2),
}
"""Every code a client can meet. Whatever is not in here is a bug, and is told as ``internal_error``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error on its way to a client."""

    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        return FORMS.get(self.code, FORMS["internal_error"])

    def envelope(self) -> dict[str, Any]:
        """OpenAI's: ``{"error": {message, type, param, code}}``."""
        error = {"message": self.message, "type": self.form.type, "param": self.param, "code": self.code}
        return {"error": error}

    def body(self, path: str) -> dict[str, Any]:
        """In the words of the dialect that is spoken at ``path``."""
        for prefix, words in DIALECTS.items():
            if path.startswith(prefix):
                return words(self)
        return self.envelope()

    def response(self, path: str = "") -> JSONResponse:
        """``path`` of the request tells the dialect; OpenAI's, which is the native one, everywhere else."""
        headers = dict(self.headers)
        wait_s = self.retry_after_s or self.form.retry_after_s
        if wait_s is not None:
            headers["Retry-After"] = str(wait_s)
        if self.form.auto_retry is not None:
            headers["x-should-retry"] = str(self.form.auto_retry).lower()
        return JSONResponse(self.body(path), status_code=self.status(path), headers=headers)

    def status(self, path: str) -> int:
        """The web UI says 422 where the request itself is at fault, as FastAPI does."""
        return 422 if self.form.status == 400 and path.startswith(WEB_UI) else self.form.status


def _of_web_ui(problem: Problem) -> dict[str, Any]:
    """FastAPI's list for a field at fault; else what the web UI makes of an exception."""
    if problem.form.status == 400 and problem.param:
        steps = re.findall(r"[^.\[\]]+", problem.param)
        place = ["body", *(int(step) if step.isdecimal() else step for step in steps)]
        return {"detail": [{"loc": place, "msg": problem.message, "type": problem.code}]}
    return {"error": "HTTPException", "detail": problem.message, "body": "", "errors": ""}


OLLAMA = "/api/"
WEB_UI = ("/sdapi/", "/internal/")
"""Where AUTOMATIC1111's dialect is spoken."""

DIALECTS: dict[str, Callable[[Problem], dict[str, Any]]] = {
    OLLAMA: lambda problem: {"error": problem.message},
    **dict.fromkeys(WEB_UI, _of_web_ui),
}
"""How errors look where another dialect than OpenAI's is spoken: the beginning of the path, and the words."""


class Refusal(Exception):
    """A request that is answered with a problem instead of a job."""

    def __init__(self, code: str, message: str, param: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, param, headers=headers)

    def within(self, prefix: str) -> Refusal:
        """The same refusal, its ``param`` seen from one level further out."""
        return Refusal(self.problem.code, self.problem.message, outer(prefix, self.problem.param))


def outer(prefix: str, param: str | None) -> str:
    """A field's name as it is seen from one level further out."""
    inner = param or ""
    joint = "" if not inner or inner.startswith("[") or not prefix else "."
    return f"{prefix}{joint}{inner}"


def of_error(error: JobError) -> Problem:
    wait_s = error.retry_after_s if isinstance(error, Busy) else None
    return Problem(error.code, error.message, error.param, retry_after_s=wait_s)


def of_end(event: Failed | Cancelled | Expired) -> Problem:
    """The problem that an unhappy end of a job is to the one who waits for its answer."""
    if isinstance(event, Failed):
        return Problem(event.code, event.message, event.param)
    if isinstance(event, Expired):
        return Problem("deadline_exceeded", event.message)
    why = "somebody asked for it" if event.reason == "requested" else "nobody was reading its answer"
    return Problem("job_cancelled", f"the job was cancelled: {why}")


def shutting_down() -> Problem:
    return Problem("shutting_down", "the server is shutting down; ask again in a moment")
