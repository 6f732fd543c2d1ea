"""Embeddings through everything: the SDKs people have, API, Redis, Celery, engine, card."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator

import httpx
import numpy as np
import ollama
import openai
import pytest
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings
from openai import OpenAI
from pydantic import SecretStr

from bench.stack import Stack
from tests.golden.embedding import ANSWERS, HIDDEN, TEXTS, write_package
from tests.whole.conftest import card_owner
from tests.whole.test_images import models, until

NAME = "tiny-embed"
NEAR = 1e-5
GOLDEN = np.array(json.loads(ANSWERS.read_text(encoding="utf-8"))["mean"])
WORDS = [text for text in TEXTS if text]
EXPECTED = GOLDEN[[bool(text) for text in TEXTS]]


def is_golden(vectors: object) -> bool:
    return bool(np.abs(np.array(vectors) - EXPECTED).max() <= NEAR)


def test_a_server_without_a_package_says_how_to_add_one(client: OpenAI, server: Stack) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.embeddings.create(model="text-embedding-3-small", input="hello")
    assert refused.value.code == "model_not_found"
    assert "no embedding model is installed here: put a package" in refused.value.message
    with ollama.Client(server.url) as sdk, pytest.raises(ollama.ResponseError, match="no embedding") as told:
        sdk.embed("nomic-embed-text", "hello")
    assert told.value.status_code == 404


@pytest.fixture(scope="module")
def encoder(server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The golden encoder, put into the running server's directory."""
    made = write_package(tmp_path_factory.mktemp("packages") / NAME, pooling="mean_tokens", shorter=(8,))
    place = server.data_dir / "models" / NAME
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    until(lambda: NAME in models(server))
    yield NAME
    shutil.rmtree(place)
    until(lambda: NAME not in models(server))


def test_openais_sdk_gets_what_transformers_computes(client: OpenAI, encoder: str) -> None:
    answer = client.embeddings.create(model=encoder, input=WORDS)
    assert is_golden([each.embedding for each in answer.data]), "asked for as base64, decoded by the SDK"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(WORDS)
    plain = client.embeddings.create(model=encoder, input=WORDS, encoding_format="float")
    both = [np.array([each.embedding for each in told.data], np.float32) for told in (plain, answer)]
    assert np.array_equal(both[0], both[1])


def test_shorter_vectors_and_texts_that_are_too_long(client: OpenAI, encoder: str) -> None:
    answer = client.embeddings.create(model=encoder, input="fire", dimensions=8)
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1, abs=1e-6)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=encoder, input=["fire", "warm " * 50])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input[1]")


def test_a_chat_model_beside_it_still_chats(client: OpenAI, encoder: str) -> None:
    def chat(model: str) -> str | None:
        asked = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "What is Hearth?"}], max_tokens=4
        )
        return asked.choices[0].message.content

    assert chat("hearth-chat")
    with pytest.raises(openai.BadRequestError, match="makes embeddings; to chat with there is hearth-chat"):
        chat(encoder)
    with pytest.raises(openai.BadRequestError, match="answers chats; for embeddings there is tiny-embed"):
        client.embeddings.create(model="hearth-chat", input="hello")


def test_ollamas_sdk(server: Stack, encoder: str) -> None:
    with ollama.Client(server.url, timeout=60) as sdk:
        answer = sdk.embed(encoder, WORDS)
        assert is_golden(answer.embeddings)
        assert answer.total_duration is not None
        assert answer.total_duration > 0
        assert len(sdk.embed(encoder, "warm " * 50, dimensions=8).embeddings[0]) == 8, "cut by default"
        with pytest.raises(ollama.ResponseError, match="tokens"):
            sdk.embed(encoder, "warm " * 50, truncate=False)
        assert len(sdk.embeddings(encoder, "fire").embedding) == HIDDEN
        assert sdk.show(encoder).capabilities == ["embedding"]


def test_langchain_as_its_users_set_it_up(server: Stack, encoder: str) -> None:
    with httpx.Client() as line:
        by_openai = OpenAIEmbeddings(
            model=encoder,
            base_url=f"{server.url}/v1",
            api_key=SecretStr("unused"),
            check_embedding_ctx_length=False,
            http_client=line,
        )
        assert is_golden(by_openai.embed_documents(WORDS))
        query = by_openai.embed_query("fire")
    by_ollama = OllamaEmbeddings(model=encoder, base_url=server.url)
    assert by_ollama._client is not None
    with by_ollama._client:
        assert is_golden(by_ollama.embed_documents(WORDS))
        assert np.allclose(by_ollama.embed_query("fire"), query)


def test_what_langchain_sends_otherwise_is_told_how_to_be_text(client: OpenAI, encoder: str) -> None:
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model=encoder, input=[[791, 3786, 13912]])


def test_a_worker_that_dies_in_mid_list_costs_nothing(server: Stack, encoder: str) -> None:
    texts = WORDS * 500
    owner = card_owner(server)
    with httpx.Client(base_url=server.url, timeout=30) as line:
        job = line.post("/v1/jobs", json={"kind": "embed", "input": texts}).json()
        url = job["urls"]["self"]

        def done() -> int:
            progress = line.get(url).json()["progress"]
            return int(progress["done"]) if progress and progress["unit"] == "inputs" else 0

        until(lambda: done() > 20)
        os.kill(owner, signal.SIGKILL)
        until(lambda: line.get(url).json()["ended_at"])
        job = line.get(url).json()
        told = [json.loads(row[6:]) for row in line.get(f"{url}/events").text.splitlines() if "data: " in row]
        found = line.get(f"{url}/embeddings").json()["data"]
    assert (job["state"], job["attempt"], job["strikes"]) == ("succeeded", 2, 1)
    indexes = [event["index"] for event in told if event["type"] == "embedded"]
    assert indexes == list(range(len(texts))), "none twice, none missing, in order"
    again = next(place for place, event in enumerate(told) if event["type"] == "queued" and event["attempt"])
    assert told[again - 1]["type"] == "embedded", "the second attempt went on behind what was there"
    rows = np.array([each["embedding"] for each in found]).reshape(-1, len(WORDS), HIDDEN)
    assert np.abs(rows - EXPECTED).max() <= NEAR
