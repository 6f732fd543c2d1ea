"""Telling the background work of a chat UI from what a person asks.

Open WebUI asks for a title, tags and follow-up questions behind every answer, and completes what is typed. On
one card that delays people. Nothing it sends says so by itself: the metadata of a task stay in it, and the
headers that it forwards are the same for a person's question. What is left is the shape of its prompts, and a
header of one's own, whose value it fills in. Source: open-webui/open-webui, 2026-08: backend/open_webui/
config.py (the templates), routers/tasks.py (one user's message, never a stream), utils/headers.py
(``{{TASK}}``).

What a person waits for is not among it: search queries and picture prompts come before an answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HEADER = "x-openwebui-task"
"""To be set in the connection's settings: ``{"X-OpenWebUI-Task": "{{TASK}}"}``."""
NOTE = "this is background work of a chat UI: it waits behind chats (queue.background_last)"

_TASKS = frozenset(
    {
        "title_generation",
        "tags_generation",
        "follow_up_generation",
        "emoji_generation",
        "autocomplete_generation",
    }
)
_BEGINNING = "### Task:\n"
_KEY = re.compile(r'\{\s*"(title|tags|follow_ups)"\s*:')
_OUTPUT = re.compile(r"^### (\*\*)?Output\b", re.MULTILINE)
_HISTORY = "<chat_history>"
_CONVERSATION = re.compile(r"<chat_history>\n.*\n</chat_history>\s*\Z", re.DOTALL)
_TYPED = re.compile(r"<type>[^<\n]*</type>\s*<text>.*</text>\s*#### Output:\s*\Z", re.DOTALL)
_COMPLETION = re.compile(r'\{\s*"text"\s*:')


def is_background(
    headers: Mapping[str, str],
    metadata: Mapping[str, str] | None,
    turns: Sequence[tuple[str, str]],
    *,
    streams: bool,
) -> bool:
    """Whether nobody reads this answer as it comes. ``turns`` are roles and texts.

    In doubt it is a person's question.
    """
    named = headers.get(HEADER) or (metadata or {}).get("task") or ""
    if named:
        return named.rpartition(".")[2].lower() in _TASKS
    asked = [text for role, text in turns if role != "system"]
    roles = [role for role, _ in turns if role != "system"]
    return not streams and roles == ["user"] and has_shape(asked[0])


def has_shape(text: str) -> bool:
    """Whether ``text`` is built as Open WebUI builds its prompts for titles, tags, follow-ups and so on.

    That is a task, the JSON that is wanted, and at the end the conversation, or what was typed.
    """
    text = text.replace("\r\n", "\n")
    if not text.startswith(_BEGINNING) or not _OUTPUT.search(text):
        return False
    head = text.partition(_HISTORY)[0]
    if _TYPED.search(text):
        return bool(_COMPLETION.search(head))
    return bool(_KEY.search(head)) and bool(_CONVERSATION.search(text))
