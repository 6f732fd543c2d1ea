"""The golden encoder on a card, against transformers; and what becomes of texts that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.embedding.engine import EmbeddingEngine
from tasks.engines import Verdict
from tasks.errors import ContextTooLong, EngineError, InvalidJob, Unsupported
from tasks.events import Cancelled, Embedded, Expired, Finished
from tests.golden.embedding import CONTEXT, HIDDEN, TEXTS, VOCAB
from tests.models.cards import Scripted
from tests.models.embedding.conftest import Load, floats, job, told, vectors

NEAR = 1e-5
LONG = "the quick fox jumped over " * 10
POOLINGS = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "last"}


def test_vectors_are_those_of_transformers(load: Load, answers: dict[str, Any]) -> None:
    for told_as, pooling in POOLINGS.items():
        made = vectors(load(pooling=told_as), *TEXTS)
        assert made.shape == (len(TEXTS), HIDDEN)
        assert np.abs(made - np.array(answers[pooling])).max() <= NEAR, pooling


def test_a_graph_that_wants_a_mask_is_given_one(load: Load, answers: dict[str, Any]) -> None:
    made = vectors(load(pooling="mean_tokens", masked=True), *TEXTS)
    assert np.abs(made - np.array(answers["mean"])).max() <= NEAR


def test_the_shortest_group_with_room_is_taken(load: Load, answers: dict[str, Any]) -> None:
    engine = load(lengths=(CONTEXT, 4, 12))
    groups = [engine._geometry.group_for(len(ids)).tokens for ids in answers["ids"]]
    assert groups == [4 if len(ids) <= 4 else 12 if len(ids) <= 12 else CONTEXT for ids in answers["ids"]]
    assert len(set(groups)) == 3
    assert np.abs(vectors(engine, *TEXTS) - np.array(answers["cls"])).max() <= NEAR


def test_the_tokens_are_those_of_transformers_and_are_counted(load: Load, answers: dict[str, Any]) -> None:
    engine = load()
    assert [engine._tokenizer.ids(text) for text in TEXTS] == answers["ids"]
    *made, end = told(engine, job(*TEXTS))
    assert isinstance(end, Finished)
    counts = [len(ids) for ids in answers["ids"]]
    assert [event.prompt_tokens for event in made if isinstance(event, Embedded)] == counts
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (sum(counts), 0)


def test_ids_are_the_text_they_stand_for(load: Load, answers: dict[str, Any]) -> None:
    engine = load()
    by_text, by_ids = vectors(engine, TEXTS[0], tuple(answers["ids"][0]))
    assert by_text.tobytes() == by_ids.tobytes()
    with pytest.raises(InvalidJob, match="another model's tokenizer") as refused:
        told(engine, job("fire", (2, len(VOCAB), 3)))
    assert refused.value.param == "input[1]"


def test_a_prompt_is_read_and_has_no_part_in_the_mean(load: Load, answers: dict[str, Any]) -> None:
    engine = load(pooling="mean_tokens", prompts=True)
    (query,) = vectors(engine, TEXTS[1], prompt_name="query")
    assert np.abs(query - np.array(answers["query"])).max() <= NEAR
    plain, document = vectors(engine, TEXTS[1]), vectors(engine, TEXTS[1], prompt_name="document")
    assert plain.tobytes() == document.tobytes() != query.tobytes()
    with pytest.raises(Unsupported, match="no prompt 'poem'"):
        told(engine, job("fire", prompt_name="poem"))


def test_fewer_dimensions_are_the_first_ones_of_unit_length(load: Load) -> None:
    engine = load(shorter=(8, 16))
    whole, short = vectors(engine, TEXTS[0])[0], vectors(engine, TEXTS[0], dimensions=8)[0]
    assert np.allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-6)
    for wrong in (0, HIDDEN + 1):
        with pytest.raises(Unsupported, match=f"not of {wrong}"):
            told(engine, job("fire", dimensions=wrong))


def test_what_is_too_long_is_refused_before_the_card_works(load: Load) -> None:
    engine = load()
    events = engine.embed(job("fire", LONG), (), Scripted())
    with pytest.raises(ContextTooLong, match=f"takes {CONTEXT}") as refused:
        next(events)
    assert refused.value.param == "input[1]"


def test_what_is_too_long_is_cut_when_that_is_wanted(load: Load) -> None:
    engine = load()
    ids = (*engine._tokenizer.ids(LONG)[: CONTEXT - 1], 3)
    cut, whole = vectors(engine, LONG, ids, truncate=True)
    assert cut.tobytes() == whole.tobytes(), "it still ends in its mark"
    *_, end = told(engine, job("fire", LONG, truncate=True))
    assert isinstance(end, Finished)
    assert end.warnings == (f"1 of 2 inputs were cut to {CONTEXT} tokens",)
    assert end.usage.prompt_tokens == 3 + CONTEXT


def test_an_attempt_goes_on_behind_what_is_there(load: Load) -> None:
    engine = load()
    first, second, *_ = told(engine, job(*TEXTS))
    assert isinstance(first, Embedded)
    assert isinstance(second, Embedded)
    *rest, end = told(engine, job(*TEXTS), [first, second])
    assert [event.index for event in rest if isinstance(event, Embedded)] == [2, 3, 4]
    assert isinstance(end, Finished)
    assert end.usage == told(engine, job(*TEXTS))[-1].usage  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("verdict", "last"),
    [(Verdict.CANCEL, Cancelled("requested")), (Verdict.EXPIRE, Expired()), (Verdict.LOST, None)],
)
def test_between_two_texts_it_listens(load: Load, verdict: Verdict, last: object) -> None:
    signals = Scripted(at=3, verdict=verdict)
    events = list(load().embed(job(*TEXTS), (), signals))
    assert [event.index for event in events if isinstance(event, Embedded)] == [0, 1]
    assert signals.calls == 2
    assert events[2:] == ([] if last is None else [last])


def test_no_text_is_no_work(load: Load) -> None:
    (end,) = told(load(), job())
    assert isinstance(end, Finished)


def test_numbers_that_are_none_are_not_passed_on(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load()

    def broken(self: EmbeddingEngine, *_: Any, **__: Any) -> dict[str, Any]:
        return {"embeddings": np.full((1, CONTEXT, HIDDEN), np.nan, np.float32)}

    monkeypatch.setattr(type(engine._graph), "run", broken)
    with pytest.raises(EngineError, match="no vector"):
        told(engine, job("fire"))


def test_every_call_is_one_the_watch_knows_of(load: Load, card: Any) -> None:
    engine = load()
    card.guard = signals = Scripted()
    events = list(engine.embed(job(*TEXTS), (), signals))
    card.guard = None
    assert signals.calls == len(TEXTS)
    assert floats(events[0]).shape == (HIDDEN,)  # type: ignore[arg-type]
