"""Token ids in, events out: thoughts, whole text and calls of tools, each with the ids it was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from models.llm.markup import Kind, Lexer, Markup, Segment
from models.llm.text import Decode, Detokenizer
from tasks.events import Delta, ReasoningDelta, TextDelta, TokenLogprob, ToolCall

CallId = Callable[[int], str]

_FAULTS_TOLD = 3


@dataclass(slots=True)
class _Piece:
    """Text that will not change, ``size`` characters of it, and the tokens it was made of."""

    size: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    was_told: bool = False


@dataclass(slots=True)
class _Draft:
    kind: Kind
    text: str
    call: tuple[str, str] | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Reply:
    """One answer as it comes.

        for token in tokens:
            yield from reply.push(token)
            if reply.is_over:
                break
        yield from reply.finish()

    Every token's id is told once, in order, by the last event that it has a part in; so whoever has been told
    some ids has been told exactly their text. A piece that may yet become part of a stop string or of a mark
    is kept back whole. Where one piece has a part in two events the first of them carries no ids, and has to
    be stored together with the second.
    """

    def __init__(self, decode: Decode, markup: Markup, call_id: CallId) -> None:
        self._detokenizer = Detokenizer(decode)
        self._lexer = Lexer(markup)
        self._call_id = call_id
        self._pieces: deque[_Piece] = deque()
        self._scores: list[TokenLogprob] = []
        self._carried: tuple[int, ...] = ()
        self._calls_told = 0
        self._tokens = 0
        self.reasoning_tokens = 0
        """Tokens of the thoughts so far, marks included."""

    @property
    def is_over(self) -> bool:
        """A stop string or the last call that was wanted has come: push no more."""
        return self._lexer.is_over

    @property
    def is_thinking(self) -> bool:
        return self._lexer.is_thinking

    @property
    def is_leaving_thoughts(self) -> bool:
        """What came last may be the first half of the mark that ends the thoughts."""
        return self._lexer.is_leaving_thoughts

    @property
    def calls(self) -> int:
        """Calls made so far."""
        return self._lexer.calls

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence, however often the model failed: it travels in a header too."""
        faults = self._lexer.faults
        if not faults:
            return ()
        which = "a tool call" if len(faults) == 1 else f"{len(faults)} tool calls"
        why = "; ".join(list(dict.fromkeys(faults))[:_FAULTS_TOLD])
        return (f"{which} of the model could not be read and stayed in the text: {why}",)

    def push(self, token: int, score: TokenLogprob | None = None) -> list[Delta]:
        """What may be told now. ``score`` is for all tokens or for none."""
        self._tokens += 1
        if score is not None:
            self._scores.append(score)
        was_thinking = self.is_thinking
        piece = self._detokenizer.push(token)
        if piece is not None:
            self._add(piece.text, piece.token_ids)
            self._lexer.feed(piece.text)
        if was_thinking or self.is_thinking:
            self.reasoning_tokens = self._tokens
        return self._events(last=self.is_over) if piece is not None else []

    def finish(self) -> list[Delta]:
        """Everything that was kept back, when no more tokens come."""
        rest = self._detokenizer.flush()
        if rest is not None:
            self._add(rest.text, rest.token_ids)
            if not self.is_over:
                self._lexer.feed(rest.text)
        self._lexer.finish()
        return self._events(last=True)

    def assume_told(self) -> None:
        """Take all that was pushed as told by an earlier reply.

        What is kept back here that one has told too, because it knew what followed, or as its last words: it
        stays undecided, and is not told again.
        """
        rest = self._detokenizer.flush()
        if rest is not None:
            self._add(rest.text, rest.token_ids)
            self._lexer.feed(rest.text)
        for piece in self._pieces:
            piece.was_told = True
        self._carried = ()

    def _add(self, text: str, token_ids: tuple[int, ...]) -> None:
        scores, self._scores = self._scores[: len(token_ids)], self._scores[len(token_ids) :]
        self._pieces.append(_Piece(len(text), token_ids, tuple(scores)))

    def _events(self, *, last: bool) -> list[Delta]:
        decided = sum(segment.raw for segment in self._lexer.segments)
        drafts: list[_Draft] = []
        while self._pieces and self._pieces[0].size <= decided:
            piece = self._pieces.popleft()
            decided -= piece.size
            self._tell(piece, drafts)
        if last and self._carried:
            if not drafts:
                drafts.append(_Draft(Kind.TEXT, ""))
            drafts[-1].token_ids += self._carried
            self._carried = ()
        return [self._event(draft) for draft in drafts]

    def _tell(self, piece: _Piece, drafts: list[_Draft]) -> None:
        """Put the piece's characters into drafts, and its ids into the last of them."""
        if piece.was_told:
            self._skip(piece.size)
            return
        segments, left, within, first = self._lexer.segments, piece.size, False, len(drafts)
        while left:
            segment = segments[0]
            length = min(left, segment.raw)
            left -= length
            if segment.kind is Kind.TEXT:
                segment.logprobs += piece.logprobs
                piece.logprobs = ()
            text, within = _advance(segment, length)
            if not within and segment.kind is not Kind.MARK:
                first = min(first, self._draft(segment, text, drafts))
            if not segment.raw:
                segments.popleft()
        self._carried += piece.token_ids
        goes_on = within or not drafts
        # No draft may keep ids whose text, or part of its own text, is told with the ids of a later one.
        for draft in reversed(drafts[first:] if goes_on else drafts[first:-1]):
            self._carried = draft.token_ids + self._carried
            draft.token_ids = ()
        if not goes_on:
            drafts[-1].token_ids += self._carried
            self._carried = ()

    def _skip(self, size: int) -> None:
        while size:
            segment = self._lexer.segments[0]
            length = min(size, segment.raw)
            size -= length
            _advance(segment, length)
            if not segment.raw:
                self._calls_told += segment.kind is Kind.CALL
                self._lexer.segments.popleft()

    def _draft(self, segment: Segment, text: str, drafts: list[_Draft]) -> int:
        """Tell ``text`` in the last draft, or one of its own; which that is."""
        if segment.kind is Kind.CALL or not drafts or drafts[-1].kind is not segment.kind:
            drafts.append(_Draft(segment.kind, "", segment.call))
        drafts[-1].text += text
        drafts[-1].logprobs += segment.logprobs
        segment.logprobs = ()
        return len(drafts) - 1

    def _event(self, draft: _Draft) -> Delta:
        if draft.call is not None:
            index, self._calls_told = self._calls_told, self._calls_told + 1
            return ToolCall(index, self._call_id(index), *draft.call, draft.token_ids)
        if draft.kind is Kind.THOUGHT:
            return ReasoningDelta(draft.text, draft.token_ids)
        return TextDelta(draft.text, draft.token_ids, draft.logprobs)


def _advance(segment: Segment, length: int) -> tuple[str, bool]:
    """Take ``length`` characters of a segment: what they tell, and whether they end within a whole one."""
    segment.raw -= length
    if segment.whole:
        return segment.text, segment.raw > 0
    text, segment.text = segment.text[:length], segment.text[length:]
    return text, False
