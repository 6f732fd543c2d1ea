"""Items in Responses' words: what a job was given to answer, and the pieces that answers are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from api.openai.answer import logprobs_of
from api.openai.responses.ids import item_id
from tasks.events import TokenLogprob
from tasks.jobs import Call, ChatJob, Message

Status = Literal["in_progress", "completed", "incomplete"]
Item = dict[str, Any]


def input_items(job: ChatJob) -> list[Item]:
    """What a request itself brought, oldest first, as the model was told it; no instructions, no history."""
    before = 0 if job.response is None else job.response.before
    told: list[Item] = []
    for message in job.messages[before:]:
        for prefix, fields in _parts_of(message):
            told.append({"id": item_id(prefix, job.submission.id, "i", len(told)), **fields})
    return told


def _parts_of(message: Message) -> Iterator[tuple[Literal["msg", "rs", "fc", "fco"], Item]]:
    if message.role == "tool":
        yield (
            "fco",
            {
                "type": "function_call_output",
                "call_id": message.call_id,
                "output": message.content,
                "status": "completed",
            },
        )
    elif message.role != "assistant":
        content = [{"type": "input_text", "text": message.content}]
        yield (
            "msg",
            {"type": "message", "role": message.role, "content": content, "status": "completed"},
        )
    else:
        if message.reasoning:
            yield "rs", reasoning(message.reasoning, "completed", as_summary=False)
        if message.content or not (message.calls or message.reasoning):
            yield "msg", spoken([text_part(message.content, ())], "completed")
        for call in message.calls:
            yield "fc", called(call, call.arguments, "completed")


def spoken(content: list[Item], status: Status) -> Item:
    """An assistant's message, but for its id."""
    return {"type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str, scores: Sequence[TokenLogprob]) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": scores_of(scores)}


def thought_part(text: str, *, as_summary: bool) -> Item:
    return {"type": "summary_text" if as_summary else "reasoning_text", "text": text}


def reasoning(text: str | None, status: Status, *, as_summary: bool) -> Item:
    """Thoughts, but for their id; None: none have been told yet."""
    parts = [] if text is None else [thought_part(text, as_summary=as_summary)]
    summary, content = (parts, []) if as_summary else ([], parts)
    return {"type": "reasoning", "status": status, "summary": summary, "content": content}


def called(call: Call, arguments: str, status: Status) -> Item:
    return {
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def scores_of(scores: Sequence[TokenLogprob]) -> list[Item]:
    told: list[Item] = logprobs_of(scores)["content"]
    return told
