"""Thoughts, text, stop strings and calls of tools, at every possible border of tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.llm.markup import Markup
from models.llm.reply import Reply
from tasks.events import Alternative, Delta, ReasoningDelta, TextDelta, TokenLogprob, ToolCall
from tests.models.llm.test_text import Bytes, tokens_of

PARTS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    '{"name": "add", "arguments": {"a": 1}}',
    '{"name": "say", "arguments": {"text": "</tool_call> \\" é漢"}}',
    '{"name": "none", "arguments": {}}',
    '"',
    "\n",
    "\n\n",
    " ",
    "ab",
    "STOP",
    "S",
    "<",
    "é漢👩‍🍳",
)
replies = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)
cut_places = st.lists(st.integers(0, 400), max_size=60)
markups = st.builds(
    Markup,
    stop=st.lists(st.sampled_from(["STOP", "ab", "\n\n", "b<", "bé", "think"]), max_size=2).map(tuple),
    thinks=st.booleans(),
    in_thoughts=st.just(False),
    tools=st.sampled_from([frozenset(), frozenset({"add", "say"})]),
    calls_once=st.booleans(),
) | st.builds(
    Markup, thinks=st.just(True), in_thoughts=st.just(True), tools=st.just(frozenset({"add", "say"}))
)


def reply_to(tokens: Sequence[bytes], markup: Markup) -> Reply:
    return Reply(Bytes(tokens).decode, markup, lambda index: f"call_{index}")


def told(tokens: Sequence[bytes], markup: Markup, start: int = 0, reply: Reply | None = None) -> list[Delta]:
    """Everything that is told of ``tokens`` from ``start`` on."""
    reply = reply or reply_to(tokens, markup)
    events: list[Delta] = []
    for token in range(start, len(tokens)):
        if reply.is_over:
            return events
        events += reply.push(token)
    return events + ([] if reply.is_over else reply.finish())


def meaning(events: Sequence[Delta]) -> list[tuple[str, ...]]:
    """What was told, whatever the pieces: neighbours of one kind joined, empty ones left out."""
    joined: list[tuple[str, ...]] = []
    for event in events:
        if isinstance(event, ToolCall):
            joined.append(("call", event.id, event.name, event.arguments))
        elif joined and joined[-1][0] == event.type:
            joined[-1] = (event.type, joined[-1][1] + event.text)
        elif event.text:
            joined.append((event.type, event.text))
    return joined


def ids(events: Sequence[Delta]) -> list[int]:
    return [token for event in events for token in event.token_ids]


@given(replies, cut_places, markups)
def test_any_split_into_tokens_means_the_same(text: str, cuts: list[int], markup: Markup) -> None:
    assert meaning(told(tokens_of(text.encode(), cuts), markup)) == meaning(told([text.encode()], markup))


@given(replies, cut_places, markups)
def test_every_token_is_told_once_and_in_order(text: str, cuts: list[int], markup: Markup) -> None:
    tokens = tokens_of(text.encode(), cuts)
    said = ids(told(tokens, markup))
    assert said == list(range(len(said)))
    if not markup.stop and not markup.calls_once:
        assert len(said) == len(tokens)


@given(replies, cut_places, markups, st.integers(0, 12))
@example("<<think></think><think>", [1], Markup(thinks=True, in_thoughts=True), 1)
@example("hm\n</think>\nyes<", [4, 14], Markup(thinks=True, in_thoughts=True, tools=frozenset({"add"})), 1)
@example("Oh\n<tool_call>{}</tool_call>", [3, 14], Markup(tools=frozenset({"add"})), 1)
@example('S<b<tool_call>{"name": "add"}</tool_call><', [2, 41], Markup(tools=frozenset({"add"})), 1)
def test_a_reply_goes_on_from_any_cut_as_if_nothing_had_happened(
    text: str, cuts: list[int], markup: Markup, kept: int
) -> None:
    tokens = tokens_of(text.encode(), cuts)
    events = told(tokens, markup)
    while 0 < kept < len(events) and not events[kept - 1].token_ids:
        kept -= 1  # what carries no ids is stored together with what follows
    again = reply_to(tokens, markup)
    for token in ids(events[:kept]):
        again.push(token)
    again.assume_told()
    rest = [] if again.is_over else told(tokens, markup, len(ids(events[:kept])), again)
    assert rest == events[kept:]
    whole = reply_to(tokens, markup)
    told(tokens, markup, reply=whole)
    assert (again.reasoning_tokens, again.calls, again.warnings) == (
        whole.reasoning_tokens,
        whole.calls,
        whole.warnings,
    )


@given(replies, cut_places, markups)
def test_no_stop_string_is_ever_in_the_text(text: str, cuts: list[int], markup: Markup) -> None:
    events = told(tokens_of(text.encode(), cuts), markup)
    if not markup.tools:  # the text of a call that cannot be read is told as it is
        for kind, *words in meaning(events):
            assert kind != "text_delta" or not any(stop in words[0] for stop in markup.stop)


@given(replies, cut_places)
def test_without_marks_a_reply_is_its_text(text: str, cuts: list[int]) -> None:
    events = told(tokens_of(text.encode(), cuts), Markup())
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text


TOOLS = Markup(thinks=True, tools=frozenset({"add", "say"}))
ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def said(text: str, markup: Markup = TOOLS) -> list[tuple[str, ...]]:
    return meaning(told([text.encode()], markup))


CALLED = ("add", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\n1+1 is 2\n</think>\n\n2.", [("reasoning_delta", "1+1 is 2"), ("text_delta", "2.")]),
        ("<think>\n\n</think>\n\n2.", [("text_delta", "2.")]),
        ("in text <think>stays</think>", [("text_delta", "in text <think>stays</think>")]),
        ("<think>never closed\n", [("reasoning_delta", "never closed")]),
        ("\n<thin", [("text_delta", "\n<thin")]),
        (f"Let me see.\n{ADD}", [("text_delta", "Let me see."), ("call", "call_0", *CALLED)]),
        (f"{ADD}\n{ADD}\n", [("call", "call_0", *CALLED), ("call", "call_1", *CALLED)]),
        (f"{ADD} and so on", [("call", "call_0", *CALLED), ("text_delta", "and so on")]),
        (f"<think>{ADD}</think>no", [("reasoning_delta", ADD), ("text_delta", "no")]),
        (ADD.removesuffix("\n</tool_call>"), [("call", "call_0", *CALLED)]),
        (
            '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
            [("call", "call_0", *CALLED)],
        ),
        ('<tool_call>{"name": "add"}</tool_call>', [("call", "call_0", "add", "{}")]),
        (
            '<tool_call>{"name": "say", "arguments": {"text": "a</tool_call>b"}}</tool_call>',
            [("call", "call_0", "say", '{"text": "a</tool_call>b"}')],
        ),
    ],
)
def test_marks_are_understood(text: str, expected: list[tuple[str, ...]]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("{broken", "it is not JSON"),
        ('{"name": "add", "arguments": {"a": NaN}}', "NaN"),
        ("[1]", "it has no name"),
        ('{"arguments": {}}', "it has no name"),
        ('{"name": "rm", "arguments": {}}', "no tool 'rm'"),
        ('{"name": "add", "arguments": [1]}', "not an object"),
        ('{"name": "add", "arguments": "x"}', "not an object"),
        ('{"name": "add', "does not end"),
    ],
)
def test_a_malformed_call_is_text_with_a_warning_and_the_next_one_a_call(body: str, fault: str) -> None:
    text = f"I do: \n<tool_call>{body}</tool_call>"
    tokens = [f"{text}\n{ADD}".encode()]
    reply = reply_to(tokens, TOOLS)
    events = meaning(told(tokens, TOOLS, reply=reply))
    assert events == [("text_delta", text), ("call", "call_0", *CALLED)]
    assert len(reply.warnings) == 1
    assert fault in reply.warnings[0]
    assert "stayed in the text" in reply.warnings[0]


def test_a_model_that_fails_often_is_told_of_once() -> None:
    tokens = [b"".join(b'<tool_call>{"name": "f%d"}</tool_call>' % n for n in range(100))]
    reply = reply_to(tokens, TOOLS)
    told(tokens, TOOLS, reply=reply)
    (warning,) = reply.warnings
    assert warning.startswith("100 tool calls of the model could not be read")
    assert len(warning) < 200


def test_without_tools_a_call_is_text() -> None:
    assert said(ADD, Markup(thinks=True)) == [("text_delta", ADD)]


def test_thoughts_that_the_template_opened_are_thoughts() -> None:
    opened = Markup(thinks=True, in_thoughts=True)
    assert said("so\n</think>\n\nyes", opened) == [("reasoning_delta", "so"), ("text_delta", "yes")]
    assert said("<think>\nso</think>yes", opened) == [("reasoning_delta", "so"), ("text_delta", "yes")]


def test_a_model_that_does_not_think_may_write_the_mark() -> None:
    assert said("<think>", Markup()) == [("text_delta", "<think>")]


def test_stop_strings_are_looked_for_in_text_only() -> None:
    stopping = Markup(stop=("tool", "a", "yes"), thinks=True, tools=TOOLS.tools)
    assert said(f"<think>a tool</think>{ADD}\n no, yes, no", stopping) == [
        ("reasoning_delta", "a tool"),
        ("call", "call_0", *CALLED),
        ("text_delta", "no, "),
    ]


@pytest.mark.parametrize("cuts", [[], [2], [1, 3], [2, 6], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_a_stop_string_that_reaches_into_what_looked_like_a_call_ends_the_text(cuts: list[int]) -> None:
    stopping = Markup(stop=("a<to",), tools=TOOLS.tools)
    events = told(tokens_of(b"xa<toolbox", cuts), stopping)
    assert meaning(events) == [("text_delta", "x")]
    events = told(tokens_of(f"xa{ADD}".encode(), cuts), stopping)
    assert meaning(events) == [("text_delta", "xa"), ("call", "call_0", *CALLED)]


@pytest.mark.parametrize("cuts", [[], [2], [3], [1, 2, 3, 4]])
def test_of_two_stop_strings_the_one_that_is_complete_first_ends_the_text(cuts: list[int]) -> None:
    events = told(tokens_of(b"xabcd", cuts), Markup(stop=("abcd", "bc")))
    assert meaning(events) == [("text_delta", "xa")]


def test_text_that_shares_its_token_with_a_call_waits_for_it() -> None:
    tokens = [b"see<tool_call>", b'{"name": "add"}', b"</tool_call>"]
    reply = reply_to(tokens, TOOLS)
    assert [reply.push(token) for token in range(3)] == [
        [],
        [],
        [TextDelta("see", ()), ToolCall(0, "call_0", "add", "{}", (0, 1, 2))],
    ]


def test_an_answer_with_one_call_ends_behind_it() -> None:
    once = Markup(tools=TOOLS.tools, calls_once=True)
    tokens = [part.encode() for part in ("Hm.", f"{ADD}\n", ADD)]
    reply = reply_to(tokens, once)
    events = told(tokens, once, reply=reply)
    assert meaning(events) == [("text_delta", "Hm."), ("call", "call_0", *CALLED)]
    assert (reply.is_over, reply.calls, ids(events)) == (True, 1, [0, 1])


def test_text_streams_before_a_call_and_thoughts_as_they_come() -> None:
    tokens = [b"<think>", b"\n", b"I", b" see", b"\n", b"</think>", b"\n\n", b"Well", b",", b"\n"]
    tokens += [b"<tool_call>", b'{"name": "add"}', b"</tool_call>"]
    reply = reply_to(tokens, TOOLS)
    events = [(token, event) for token in range(len(tokens)) for event in reply.push(token)]
    assert events == [
        (2, ReasoningDelta("I", (0, 1, 2))),
        (3, ReasoningDelta(" see", (3,))),
        (7, TextDelta("Well", (4, 5, 6, 7))),
        (8, TextDelta(",", (8,))),
        (12, ToolCall(0, "call_0", "add", "{}", (9, 10, 11, 12))),
    ]


def test_thoughts_are_counted_with_their_marks() -> None:
    tokens = [b"<think>", b"a", b"b", b"</think>", b"\n\n", b"c"]
    reply = reply_to(tokens, TOOLS)
    counts = []
    for token in range(len(tokens)):
        reply.push(token)
        counts.append((reply.reasoning_tokens, reply.is_thinking))
    assert counts == [(1, True), (2, True), (3, True), (4, False), (4, False), (4, False)]


def test_two_events_of_one_token_name_it_last() -> None:
    assert told([b"<think>x</think>y"], TOOLS) == [ReasoningDelta("x", ()), TextDelta("y", (0,))]


def test_text_has_the_probabilities_of_its_own_tokens() -> None:
    tokens = [b"<think>", b"hm", b"</think>", b"\n\n", b"a", b"\xc3", b"\xa9", b"STOP"]
    scores = [TokenLogprob(Alternative(str(n), (), -float(n))) for n in range(len(tokens))]
    reply = reply_to(tokens, Markup(stop=("STOP",), thinks=True))
    events = [event for token, score in enumerate(scores) for event in reply.push(token, score)]
    assert [event.logprobs for event in events if isinstance(event, TextDelta)] == [
        (scores[4],),
        (scores[5], scores[6]),
        (),
    ]


def test_what_may_begin_a_stop_string_comes_with_the_token_that_decides() -> None:
    reply = reply_to([b"one ", b"ST", b"ill"], Markup(stop=("STOP",)))
    assert reply.push(0) == [TextDelta("one ", (0,))]
    assert reply.push(1) == []
    assert reply.push(2) == [TextDelta("STill", (1, 2))]


def test_last_words_that_were_told_already_are_not_told_again() -> None:
    reply = reply_to([b"one ", b"ST"], Markup(stop=("STOP",)))
    for token in (0, 1):
        reply.push(token)
    reply.assume_told()
    assert reply.finish() == []


def test_a_call_of_thousands_of_tokens_is_one_event() -> None:
    body = json.dumps({"name": "say", "arguments": {"text": "x" * 4000}})
    tokens = [*(char.encode() for char in f"<tool_call>{body}"), b"</tool_call>"]
    events = told(tokens, TOOLS)
    assert [event.type for event in events] == ["tool_call"]
    assert all(a + 1 == b for a, b in pairwise(ids(events)))
