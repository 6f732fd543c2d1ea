"""The sampler against a plain reference, against transformers' processors, and against chance itself."""

from __future__ import annotations

import base64
import gc
import itertools
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.llm.sampler import Choice, History, Sampler, SamplerOptions, Uniform, make_sampler
from tasks.errors import EngineError
from tests.models import reference_sampler as reference

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sampler.json").read_text())
QWEN_VOCAB = 151_936


def bf16(values: Any) -> NDArray[Any]:
    return np.asarray(values, np.float32).astype(ml_dtypes.bfloat16)


def normal(vocab: int, sigma: float, seed: int = 0, offset: float = 0.0) -> NDArray[Any]:
    return bf16(np.random.default_rng(seed).normal(size=vocab) * sigma + offset)


def sampler(vocab: int, seed: int = 1, **options: Any) -> Sampler:
    return make_sampler(SamplerOptions(seed=seed, **options), vocab)


def history_of(prompt: list[int], answer: list[int]) -> History:
    history = History(prompt, room=1)
    for token in answer:
        history.append(token)
    return history


def support(sampler: Sampler, logits: NDArray[Any], **more: Any) -> list[int]:
    ids, _ = sampler.distribution(logits, **more)
    return [int(token) for token in ids]


# -- exact sets and probabilities ------------------------------------------------------------------

OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0])},
    optional={
        "top_k": st.sampled_from([1, 2, 5, 20, 300, 100_000]),
        "top_p": st.floats(0.01, 0.999),
        "min_p": st.floats(1e-6, 1.0),
        "typical_p": st.floats(0.01, 0.999),
        "repetition_penalty": st.floats(0.5, 2.0),
        "repetition_window": st.integers(0, 40),
        "frequency_penalty": st.floats(-2, 2),
        "presence_penalty": st.sampled_from([-1.5, 0.5, 1.0]),
        "answer_window": st.integers(0, 20),
    },
)


@st.composite
def logits_of_any_kind(draw: st.DrawFn) -> NDArray[Any]:
    vocab = draw(st.sampled_from([1, 2, 9, 127, 300, 2600, 2777]))
    sigma = draw(st.sampled_from([0.0, 0.5, 3.0, 6.0, 40.0]))
    offset = draw(st.sampled_from([0.0, 15.0, -30.0]))
    made = normal(vocab, sigma, draw(st.integers(0, 2**32)), offset).astype(np.float32)
    step = draw(st.sampled_from([0.0, 0.5, 4.0]))  # coarse steps make many ties, and zeros of both signs
    return bf16(np.round(made / step) * step if step else made)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data(), logits=logits_of_any_kind(), options=OPTIONS)
def test_distribution_is_that_of_the_plain_reference(
    data: st.DataObject, logits: NDArray[Any], options: dict[str, Any]
) -> None:
    vocab = len(logits)
    token = st.integers(0, vocab - 1)
    prompt, answer = data.draw(st.lists(token, max_size=30)), data.draw(st.lists(token, max_size=30))
    bias = data.draw(st.dictionaries(token, st.sampled_from([-100.0, -1.25, 0.5, 3.0, 100.0]), max_size=5))
    allowed = None
    if data.draw(st.booleans()):
        allowed = np.random.default_rng(data.draw(st.integers(0, 99))).random(vocab) < 0.3
        assume(allowed.any())
    made = SamplerOptions(seed=1, logit_bias=bias, **options)
    mask = None if allowed is None else allowed.tolist()
    try:
        expected = reference.distribution(made, logits.astype(float).tolist(), prompt, answer, mask)
    except reference.AmbiguousError:
        reject()
    ids, probabilities = make_sampler(made, vocab).distribution(logits, history_of(prompt, answer), allowed)
    assert ids.tolist() == list(expected)
    np.testing.assert_allclose(probabilities, list(expected.values()), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("vocab", [64, 4096])
def test_ties_at_every_border_go_to_the_lowest_ids(vocab: int) -> None:
    flat = bf16(np.full(vocab, 2.5))
    assert support(sampler(vocab, top_k=5), flat) == [0, 1, 2, 3, 4]
    assert support(sampler(vocab, top_p=0.25, temperature=1.0), flat) == list(range(vocab // 4))
    assert support(sampler(vocab, typical_p=0.5, temperature=1.0), flat) == list(range(vocab // 2))
    assert support(sampler(vocab, min_p=1.0), flat) == list(range(vocab))
    assert sampler(vocab, temperature=0)(flat, 0) == Choice(0)
    steps = bf16(np.linspace(0, 1 - vocab, vocab))
    assert support(sampler(vocab, temperature=1.0, min_p=float(np.exp(-2.0))), steps) == [0, 1, 2]


def test_tie_between_a_penalised_token_and_others_goes_to_the_lowest_ids() -> None:
    logits = np.full(2600, -20.0)
    logits[[10, 30, 40]] = 2.0
    logits[[20, 5]] = 4.0, 3.0
    ids = support(sampler(2600, top_k=3, repetition_penalty=2.0), bf16(logits), history=history_of([20], []))
    assert ids == [5, 10, 20]


@pytest.mark.parametrize("offset", [0.0, -40.0])
@pytest.mark.parametrize("penalised", [10, 100, 305])
def test_top_k_is_exact_when_the_most_probable_tokens_are_the_penalised_ones(
    penalised: int, offset: float
) -> None:
    logits = normal(40_000, 3.0, offset=offset)
    values = logits.astype(float).tolist()
    prompt = np.argsort(-logits.astype(np.float32), kind="stable")[:penalised].tolist()
    made = SamplerOptions(seed=1, top_k=20, temperature=1.0, repetition_penalty=1.4)
    ids, probabilities = make_sampler(made, 40_000).distribution(logits, history_of(prompt, []))
    expected = reference.distribution(made, values, prompt)
    assert ids.tolist() == list(expected)
    np.testing.assert_allclose(probabilities, list(expected.values()), rtol=1e-9)


def test_both_zeros_are_one_value() -> None:
    logits = bf16([-1.0, -0.0, 0.0, -0.0, 0.0] + [-2.0] * 1000)
    assert support(sampler(1005, top_k=3), logits) == [1, 2, 3]
    assert sampler(1005, temperature=0)(logits, 0).token_id == 1


def test_greedy_finds_the_first_maximum_of_negative_logits_too() -> None:
    for offset in (0.0, -60.0):
        logits = normal(5000, 3.0, offset=offset)
        assert sampler(5000, temperature=0)(logits, 0).token_id == int(logits.astype(np.float32).argmax())


# -- chance ----------------------------------------------------------------------------------------

CHANCE: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.3},
    {"temperature": 1.3, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.01, "typical_p": 0.8, "frequency_penalty": 0.6, "logit_bias": {5: 3.0}},
)
DRAWS = 4000


@pytest.mark.parametrize("options", CHANCE, ids=str)
def test_drawn_tokens_follow_the_plain_softmax(options: dict[str, Any]) -> None:
    logits, prompt, answer = normal(2600, 3.0, seed=5), [1, 2, 3, 100], [2, 9, 9]
    made = SamplerOptions(seed=77, **options)
    expected = reference.distribution(made, logits.astype(float).tolist(), prompt, answer)
    drawn = draws(made, logits, history_of(prompt, answer))
    assert is_plausible(drawn, expected)
    # The test can tell: the same draws do not pass for those of a slightly warmer distribution.
    warmer = SamplerOptions(seed=77, **{**options, "temperature": options["temperature"] * 1.25})
    other = reference.distribution(warmer, logits.astype(float).tolist(), prompt, answer)
    assert not is_plausible(drawn, other)


def draws(options: SamplerOptions, logits: NDArray[Any], history: History) -> dict[int, int]:
    one = make_sampler(options, len(logits))
    tokens, counts = np.unique(
        [one(logits, position, history).token_id for position in range(DRAWS)], return_counts=True
    )
    return dict(zip(tokens.tolist(), counts.tolist(), strict=True))


def is_plausible(drawn: dict[int, int], expected: reference.Distribution) -> bool:
    """Pearson's chi-square at one in ten thousand; tokens expected fewer than five times are one bin."""
    if set(drawn) - set(expected):
        return False
    pairs = [(drawn.get(token, 0), share * DRAWS) for token, share in expected.items()]
    large = [pair for pair in pairs if pair[1] >= 5]
    rest = [pair for pair in pairs if pair[1] < 5]
    if rest and sum(share for _, share in rest) >= 5:
        large.append((sum(count for count, _ in rest), sum(share for _, share in rest)))
    statistic = sum((count - share) ** 2 / share for count, share in large)
    freedom = len(large) - 1
    # Wilson and Hilferty's normal approximation of the chi-square distribution.
    spread = 2 / (9 * freedom)
    return bool(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < 3.72)


def test_randomness_belongs_to_seed_and_position_in_any_order() -> None:
    logits = normal(3000, 2.0)
    one = sampler(3000, seed=9, temperature=1.0)
    forwards = [one(logits, position).token_id for position in range(50)]
    again = sampler(3000, seed=9, temperature=1.0)
    backwards = [again(logits, position).token_id for position in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [sampler(3000, seed=10, temperature=1.0)(logits, p).token_id for p in range(50)]


def test_randomness_is_philox_and_so_the_same_everywhere() -> None:
    # The generator's own test vector: Salmon et al., Random123, kat_vectors, philox4x64-10.
    assert philox(0, 0) == 0x16554D9ECA36314C
    for seed, position in itertools.product((0, 1, 2**64 - 1), (0, 5, 4000)):
        # numpy counts up before it draws.
        assert Uniform(seed)(position) == (philox(seed, position + 1) >> 11) / 2**53
    assert Uniform(2**64 + 3)(1) == Uniform(3)(1)


def philox(key: int, counter: int) -> int:
    """The first word of Philox 4x64-10."""
    word = (1 << 64) - 1
    a, b, c, d, keys = counter, 0, 0, 0, [key, 0]
    for _ in range(10):
        first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (second >> 64) ^ b ^ keys[0], second & word, (first >> 64) ^ d ^ keys[1], first & word
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & word, (keys[1] + 0xBB67AE8584CAA73B) & word]
    return a


# -- transformers ----------------------------------------------------------------------------------


def golden_logits() -> NDArray[np.uint16]:
    return np.frombuffer(base64.b64decode(GOLDEN["bits"]), "<u2").astype(np.uint16)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: str(case["options"]))
def test_filters_and_penalties_agree_with_transformers(case: dict[str, Any]) -> None:
    options = dict(case["options"])
    options["logit_bias"] = {int(token): bias for token, bias in options.get("logit_bias", {}).items()}
    bits = golden_logits()
    history = history_of(GOLDEN["prompt"], GOLDEN["answer"])
    ids, probabilities = sampler(len(bits), **options).distribution(bits, history)
    assert len(ids) == case["size"]
    assert ids[: len(case["ids"])].tolist() == case["ids"]
    np.testing.assert_allclose(probabilities[: len(case["ids"])], case["probabilities"], rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 5, "logit_bias": {3: 9.0}}], ids=str)
def test_logprobs_are_the_models_own_whatever_the_options(options: dict[str, Any]) -> None:
    bits = golden_logits()
    choice = sampler(len(bits), logprobs=20, **options)(bits, 3)
    assert [token for token, _ in choice.top] == [token for token, _ in GOLDEN["logprobs"]]
    np.testing.assert_allclose([p for _, p in choice.top], [p for _, p in GOLDEN["logprobs"]], rtol=1e-12)
    values = (bits.astype(np.uint32) << 16).view(np.float32).astype(float)
    assert choice.logprob == pytest.approx(values[choice.token_id] - np.log(np.exp(values).sum()), rel=1e-12)


def test_logprobs_of_equal_tokens_come_by_id_and_none_are_told_unasked() -> None:
    flat = bf16(np.full(3000, -1.0))
    choice = sampler(3000, logprobs=3)(flat, 0)
    assert [token for token, _ in choice.top] == [0, 1, 2]
    assert choice.logprob == pytest.approx(-math.log(3000))
    assert sampler(3000, logprobs=0)(flat, 0).top == ()
    assert sampler(3000)(flat, 0).logprob is None


# -- bias, masks, windows, errors ------------------------------------------------------------------


def test_bias_of_a_hundred_forces_and_forbids() -> None:
    logits = normal(4000, 6.0)
    best = int(logits.astype(np.float32).argmax())
    forced = sampler(4000, temperature=1.0, logit_bias={17: 100.0})
    forbidden = sampler(4000, temperature=1.0, logit_bias={best: -100.0})
    assert {forced(logits, position).token_id for position in range(200)} == {17}
    assert best not in {forbidden(logits, position).token_id for position in range(200)}


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 20}, {"logit_bias": {8: 4.0}}], ids=str)
def test_only_allowed_tokens_are_drawn_and_packed_masks_mean_the_same(options: dict[str, Any]) -> None:
    logits = normal(20_001, 6.0)
    allowed = np.random.default_rng(1).random(20_001) < 0.01
    packed = np.packbits(allowed, bitorder="little")
    words = np.concatenate((packed, np.zeros(-len(packed) % 4, np.uint8))).view(np.int32)
    one = sampler(20_001, **options)
    for position in range(40):
        token = one(logits, position, allowed=allowed).token_id
        assert allowed[token]
        assert token == one(logits, position, allowed=packed).token_id
        assert token == one(logits, position, allowed=words).token_id


def test_windows_forget_what_is_older() -> None:
    logits = bf16([3.0, 2.0, 1.0, 0.5])
    prompt, answer = [0, 1], [1, 2, 2]

    def values(**options: Any) -> list[float]:
        ids, shares = sampler(4, temperature=1.0, **options).distribution(logits, history_of(prompt, answer))
        found = dict(zip(ids.tolist(), np.log(shares).tolist(), strict=True))
        return [found[token] - found[3] + 0.5 for token in range(4)]

    assert values(repetition_penalty=2.0, repetition_window=3) == pytest.approx([3.0, 1.0, 0.5, 0.5])
    assert values(repetition_penalty=2.0, repetition_window=0) == pytest.approx([3.0, 2.0, 1.0, 0.5])
    assert values(frequency_penalty=0.5, presence_penalty=1.0) == pytest.approx([3.0, 0.5, -1.0, 0.5])
    assert values(frequency_penalty=0.5, answer_window=1) == pytest.approx([3.0, 2.0, 0.5, 0.5])


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 5}, {"top_p": 0.9}], ids=str)
def test_logits_that_are_not_numbers_end_the_job(bad: float, options: dict[str, Any]) -> None:
    logits = normal(3000, 3.0)
    logits[1234] = math.copysign(bad, bad)
    with pytest.raises(EngineError, match="not numbers"):
        sampler(3000, **options)(logits, 0)
    with pytest.raises(EngineError, match="not numbers"):
        sampler(3000, logit_bias={1234: -100.0}, **options)(logits, 0)


def test_a_mask_that_allows_nothing_ends_the_job() -> None:
    with pytest.raises(EngineError, match="allows no token"):
        sampler(300, logit_bias={4: 1.0})(normal(300, 1.0), 0, allowed=np.zeros(300, np.bool_))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"typical_p": 0.0},
        {"repetition_penalty": 0.0},
        {"logit_bias": {1: math.inf}},
        {"logit_bias": {99: 1.0}},
        {"logprobs": -1},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        sampler(50, **options)


def test_arguments_of_the_wrong_kind_are_refused() -> None:
    one = sampler(50, repetition_penalty=1.1)
    with pytest.raises(ValueError, match="shape"):
        one(normal(51, 1.0), 0, History([]))
    with pytest.raises(ValueError, match="type"):
        one(np.zeros(50), 0, History([]))
    with pytest.raises(ValueError, match="need the history"):
        one(normal(50, 1.0), 0)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        one(normal(50, 1.0), 0, History([50]))
    with pytest.raises(ValueError, match="mask"):
        one(normal(50, 1.0), 0, History([]), np.ones(49, np.bool_))


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [6.0, 0.0])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1},
        {"temperature": 1.0, "top_p": 0.9, "frequency_penalty": 0.5},
        {"temperature": 1.0, "min_p": 0.01, "typical_p": 0.9},
        {"temperature": 0, "logprobs": 20},
        {"temperature": 1.0, "logit_bias": {4: 1.0}, "logprobs": 20},
    ],
    ids=str,
)
def test_no_call_allocates_a_vocabulary(options: dict[str, Any], sigma: float) -> None:
    logits = normal(QWEN_VOCAB, sigma)
    peak = peak_bytes(logits, options)
    assert peak < logits.nbytes
    # Four times the vocabulary with the same values in it: not a bit more for each token more.
    assert peak_bytes(np.tile(logits, 4), options) - peak < 3 * QWEN_VOCAB / 8


def peak_bytes(logits: NDArray[Any], options: dict[str, Any]) -> int:
    """The most memory that a few calls held at a time, beside what the sampler holds for good."""
    history, allowed = History(range(400)), np.ones(len(logits), np.bool_)
    one = sampler(len(logits), **options)
    one(logits, 0, history)
    gc.collect()
    tracemalloc.start()
    try:
        for position in range(3):
            history.append(one(logits, position, history).token_id)
            history.append(one(logits, position, history, allowed).token_id)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.9, "top_k": 7}, {"logprobs": 3}])
def test_float32_logits_choose_as_their_bf16_roundings_do(options: dict[str, Any]) -> None:
    wide = (np.random.default_rng(5).normal(size=1000) * 6).astype(np.float32)
    narrow = wide.astype(ml_dtypes.bfloat16)
    for position in range(20):
        ours = sampler(1000, **options)(wide, position)
        if options.get("temperature") == 0:
            assert ours.token_id == int(wide.argmax())
        else:
            assert ours == sampler(1000, **options)(narrow, position)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_float32_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    wide = np.zeros(1000, np.float32)
    wide[17] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineError, match="not numbers"):
            sampler(1000, temperature=temperature)(wide, 0)
