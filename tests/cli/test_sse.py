"""The parser of server-sent events keeps comments, and drops what was cut short."""

from __future__ import annotations

from cli.sse import Comment, Message, messages


def parse(text: str) -> list[Message | Comment]:
    return list(messages(text.split("\n")))


def test_messages_and_comments_come_in_their_order() -> None:
    queued = 'id: 1-0\nevent: queued\ndata: {"a": 1}\n\n'
    first, comment, last = parse(
        queued + ": queued position=2\n\n" + "id: 2-0\nevent: finished\ndata: {}\n\n"
    )
    assert first == Message("queued", '{"a": 1}', "1-0")
    assert comment == Comment("queued position=2")
    assert isinstance(first, Message)
    assert not first.is_terminal
    assert isinstance(last, Message)
    assert last.is_terminal


def test_several_data_lines_are_one_message() -> None:
    assert parse("data: one\ndata:two\n\n") == [Message("message", "one\ntwo")]


def test_a_message_without_its_end_is_dropped() -> None:
    assert parse("id: 1-0\nevent: text_delta\ndata: {") == []


def test_an_event_without_data_says_nothing() -> None:
    assert parse("event: text_delta\n\n") == []


def test_unknown_fields_are_passed_over() -> None:
    assert parse("retry: 100\ndata: x\n\n") == [Message("message", "x")]
