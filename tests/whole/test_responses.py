"""A response through everything: whoever dies, its stream goes on behind the last event that was heard."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import openai
from openai import OpenAI

from bench.stack import Stack
from tests.whole.conftest import MODEL, Card, card_owner
from tests.whole.test_promises import KINDS, PATIENCE_S, process

ENDS = ("response.completed", "response.incomplete", "response.failed")


def resumed(client: OpenAI, response: str, known: list[Any]) -> Iterator[Any]:
    """The events behind those that are known. The API may be away for a while."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            after = known[-1].sequence_number
            yield from client.responses.retrieve(response, stream=True, starting_after=after)
        except (openai.APIConnectionError, openai.InternalServerError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the stream did not go on in time")


def test_a_stream_goes_on_though_api_and_worker_were_killed(
    server: Stack, client: OpenAI, card: Card
) -> None:
    card("set-fault", "slow", "--factor", "20")
    known: list[Any] = []
    victims = [process(server, KINDS["api"]).pid, card_owner(server)]
    stream = client.responses.create(
        model=MODEL,
        input="List everything you can do.",
        background=True,
        stream=True,
        temperature=2.0,
        max_output_tokens=60,
        extra_body={"seed": 7},
    )
    try:
        for event in stream:
            known.append(event)
            if victims and sum(each.type == "response.output_text.delta" for each in known) == 2:
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
                victims = []
    except openai.APIConnectionError:
        card("set-fault", "none")
    assert not victims, "it ended before it could be disturbed"
    response = known[0].response.id
    while known[-1].type not in ENDS:
        for event in resumed(client, response, known):
            known.append(event)
    assert [event.sequence_number for event in known] == list(range(len(known)))
    text = "".join(event.delta for event in known if event.type == "response.output_text.delta")
    assert text == client.responses.retrieve(response).output_text
    again = list(client.responses.retrieve(response, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in known]
