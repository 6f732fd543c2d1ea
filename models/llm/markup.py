"""What a model's words are: thoughts, text, calls of tools, or marks between them. Decided as they come.

``<think>thoughts</think>text<tool_call>{json}</tool_call>``, as Qwen3 and its like write. The rules:

- Thoughts stand at the very beginning, or the chat template has opened them. White space around them belongs
  to the marks.
- A call within thoughts is a thought: Qwen's own agent (QwenLM/Qwen-Agent, nous_fncall_prompt.py) takes no
  call from there either.
- Calls follow one another; white space between a call and its neighbours belongs to the marks.
- Between the marks of a call that cannot be read stands text, marks included.
- Stop strings are looked for in text only. The one that is complete first ends the answer.

Nothing here depends on how the words are cut into pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from models.llm.calls import CLOSE_CALL, OPEN_CALL, MalformedCall, end_of_call, read_call
from tasks.events import TokenLogprob

OPEN_THOUGHTS = "<think>"
CLOSE_THOUGHTS = "</think>"
END_OF_THOUGHTS = f"\n{CLOSE_THOUGHTS}\n\n"
"""How Qwen3 leaves its thoughts."""


@dataclass(frozen=True, slots=True)
class Markup:
    """Which marks mean something in one answer.

    ``thinks``: the model may think; ``in_thoughts``: the prompt has ended within its thoughts. ``tools``: the
    names that can be called; without any, a call is text. ``calls_once``: the answer ends behind its first
    call.
    """

    stop: tuple[str, ...] = ()
    thinks: bool = False
    in_thoughts: bool = False
    tools: frozenset[str] = frozenset()
    calls_once: bool = False


class Kind(Enum):
    TEXT = auto()
    THOUGHT = auto()
    CALL = auto()
    MARK = auto()


@dataclass(slots=True)
class Segment:
    """``raw`` characters of what came, and what they are.

    A whole segment counts only once all of it has come; others may be told character by character, and their
    ``text`` is the characters themselves.
    """

    kind: Kind
    raw: int
    text: str = ""
    whole: bool = False
    call: tuple[str, str] | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())


class _Mode(Enum):
    BEGINNING = auto()
    INTO_THOUGHTS = auto()
    THOUGHTS = auto()
    SPACE = auto()
    TEXT = auto()
    CALL = auto()
    OVER = auto()


class Lexer:
    """Cuts what comes into ``segments``. What may still become something else is kept until it is certain."""

    def __init__(self, markup: Markup) -> None:
        self._markup = markup
        self._stop = tuple(each for each in markup.stop if each)
        self._rest = ""
        self._gap = ""
        self._mode = _Mode.INTO_THOUGHTS if markup.in_thoughts else _Mode.BEGINNING
        self._may_reopen = markup.in_thoughts
        self._steps = {
            _Mode.BEGINNING: self._begin,
            _Mode.INTO_THOUGHTS: self._enter_thoughts,
            _Mode.THOUGHTS: self._think,
            _Mode.SPACE: self._skip_space,
            _Mode.TEXT: self._speak,
            _Mode.CALL: self._call,
        }
        self.segments: deque[Segment] = deque()
        self.faults: list[str] = []
        """Why calls could not be read."""
        self.calls = 0

    @property
    def is_over(self) -> bool:
        """A stop string came, or the one call that was wanted: nothing more will be told."""
        return self._mode is _Mode.OVER

    @property
    def is_thinking(self) -> bool:
        return self._mode in (_Mode.INTO_THOUGHTS, _Mode.THOUGHTS)

    @property
    def is_leaving_thoughts(self) -> bool:
        return self.is_thinking and overlap(self._rest, CLOSE_THOUGHTS) > 0

    def feed(self, text: str) -> None:
        self._rest += text
        self._run(final=False)

    def finish(self) -> None:
        """No more comes: whatever is kept is decided now."""
        self._run(final=True)

    def _run(self, *, final: bool) -> None:
        while self._mode is not _Mode.OVER and self._steps[self._mode](final):
            pass

    def _say(self, kind: Kind, length: int) -> None:
        """The next ``length`` characters are of this kind."""
        if length:
            text, self._rest = self._rest[:length], self._rest[length:]
            self.segments.append(Segment(kind, length, text if kind is not Kind.MARK else ""))

    def _end(self) -> bool:
        self._say(Kind.MARK, len(self._rest))
        self._mode = _Mode.OVER
        return False

    # Each step returns whether another may follow at once.

    def _begin(self, final: bool) -> bool:
        words = self._rest.lstrip()
        if self._markup.thinks and words.startswith(OPEN_THOUGHTS):
            self._say(Kind.MARK, len(self._rest) - len(words) + len(OPEN_THOUGHTS))
            self._mode = _Mode.INTO_THOUGHTS
            return True
        if self._markup.thinks and OPEN_THOUGHTS.startswith(words) and not final:
            return False
        self._mode = _Mode.TEXT
        return True

    def _enter_thoughts(self, final: bool) -> bool:
        self._say(Kind.MARK, len(self._rest) - len(self._rest.lstrip()))
        if self._may_reopen and self._rest.startswith(OPEN_THOUGHTS):
            # The template opened the thoughts, and the model does it again.
            self._say(Kind.MARK, len(OPEN_THOUGHTS))
            self._may_reopen = False
            return True
        if not self._rest or (self._may_reopen and OPEN_THOUGHTS.startswith(self._rest) and not final):
            return False
        self._mode = _Mode.THOUGHTS
        return True

    def _think(self, final: bool) -> bool:
        at = self._rest.find(CLOSE_THOUGHTS)
        kept = 0 if final else overlap(self._rest, CLOSE_THOUGHTS)
        border = at if at >= 0 else len(self._rest) - kept
        thoughts = self._rest[:border].rstrip()
        self._say(Kind.THOUGHT, len(thoughts))
        if at >= 0:
            self._say(Kind.MARK, border - len(thoughts) + len(CLOSE_THOUGHTS))
            self._mode = _Mode.SPACE
            return True
        if final:
            self._say(Kind.MARK, len(self._rest))
        return False

    def _skip_space(self, final: bool) -> bool:
        self._say(Kind.MARK, len(self._rest) - len(self._rest.lstrip()))
        if self._rest:
            self._mode = _Mode.TEXT
        return bool(self._rest)

    def _speak(self, final: bool) -> bool:
        text, at = self._rest, self._rest.find(OPEN_CALL) if self._markup.tools else -1
        border = at if at >= 0 else len(text) - self._maybe_call(final)
        stop = _first_complete(text[:border], self._stop)
        if stop is not None:
            self._say(Kind.TEXT, stop)
            return self._end()
        if at >= 0:
            said = len(text[:at].rstrip())
            self._gap = text[said:at]
            self._say(Kind.TEXT, said)
            self._say(Kind.MARK, at - said)
            self._mode = _Mode.CALL
            return True
        self._say(Kind.TEXT, len(text) if final else self._certain(border))
        return False

    def _maybe_call(self, final: bool) -> int:
        return overlap(self._rest, OPEN_CALL) if self._markup.tools and not final else 0

    def _certain(self, border: int) -> int:
        """How much of the kept text neither a stop string nor a call can reach any more."""
        text, certain = self._rest, border
        for stop in self._stop:
            # One that is complete already lies across the border, and counts if no call begins there.
            found = text.find(stop)
            certain = min(certain, len(text) - overlap(text, stop) if found < 0 else found)
        return len(text[:certain].rstrip()) if self._markup.tools else certain

    def _call(self, final: bool) -> bool:
        first = self._rest.find(CLOSE_CALL)
        if first < 0 and not final:
            return False
        end = end_of_call(self._rest) if first >= 0 else len(self._rest)
        if end is None and not final:
            return False
        after = first + len(CLOSE_CALL) if first >= 0 else len(self._rest)
        try:
            if end is None:
                raise MalformedCall("a string in it does not end")
            call = read_call(self._rest[len(OPEN_CALL) : end], self._markup.tools)
        except MalformedCall as fault:
            self.faults.append(str(fault))
            self._take_whole(Segment(Kind.TEXT, after, self._gap + self._rest[:after], whole=True))
            self._mode = _Mode.TEXT
            return bool(self._rest)
        self.calls += 1
        length = min(end + len(CLOSE_CALL), len(self._rest))
        self._take_whole(Segment(Kind.CALL, length, whole=True, call=call))
        if self._markup.calls_once:
            return self._end()
        self._mode = _Mode.SPACE
        return bool(self._rest)

    def _take_whole(self, segment: Segment) -> None:
        self._rest = self._rest[segment.raw :]
        self.segments.append(segment)


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that ``mark`` begins with, short of the whole of it."""
    longest = min(len(mark) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(mark[:size])), 0)


def _first_complete(text: str, marks: Sequence[str]) -> int | None:
    """Where the mark begins that is complete first, of several the longest; None when there is none."""
    found = ((at + len(mark), at) for mark in marks if (at := text.find(mark)) >= 0)
    return min(found, default=(0, None))[1]
