"""A job's options as one chooser of tokens, checked against the model before the card is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hardware.card import Array
from models.llm.sampler import Choice, History, SamplerOptions, make_sampler
from models.llm.spectrum import Mask
from tasks.errors import InvalidJob
from tasks.events import Alternative, TokenLogprob
from tasks.jobs import Sampling

TokenBytes = Callable[[int], bytes]


class Chooser:
    """Chooses the tokens of one answer, one after the other; knows all tokens so far."""

    def __init__(
        self, sampling: Sampling, vocab: int, prompt: Sequence[int], token_bytes: TokenBytes
    ) -> None:
        """Raises InvalidJob when an option is out of its range, or speaks of tokens the model has not."""
        self._sampler = make_sampler(_options(sampling, vocab), vocab)
        self._history = History(prompt)
        self._tells = sampling.logprobs is not None
        self._token_bytes = token_bytes

    def choose(self, logits: Array, allowed: Mask | None = None) -> tuple[int, TokenLogprob | None]:
        """The next token, one of ``allowed``, and how probable the model found it if that is asked for.

        Not yet part of the answer.
        """
        choice = self._sampler(logits, len(self._history), self._history, allowed)
        return choice.token_id, self._score(choice) if self._tells else None

    def given(self, token: int) -> TokenLogprob | None:
        """The probability of a token that is not chosen but given: it is certain."""
        return TokenLogprob(self._alternative(token, 0.0)) if self._tells else None

    def note(self, token: int) -> None:
        """``token`` is now part of the answer."""
        self._history.append(token)

    def _score(self, choice: Choice) -> TokenLogprob:
        assert choice.logprob is not None
        top = tuple(self._alternative(token, logprob) for token, logprob in choice.top)
        return TokenLogprob(self._alternative(choice.token_id, choice.logprob), top)

    def _alternative(self, token: int, logprob: float) -> Alternative:
        own = self._token_bytes(token)
        return Alternative(own.decode("utf-8", "replace"), tuple(own), logprob)


def _options(sampling: Sampling, vocab: int) -> SamplerOptions:
    for token, _ in sampling.logit_bias:
        if not 0 <= token < vocab:
            raise InvalidJob(
                f"logit_bias names the token {token}; this model's are 0 to {vocab - 1}", param="logit_bias"
            )
    # The nucleus of nothing is its likeliest token.
    top_k, top_p = (sampling.top_k, sampling.top_p) if sampling.top_p > 0 else (1, 1.0)
    try:
        return SamplerOptions(
            seed=sampling.seed,
            temperature=sampling.temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=sampling.min_p,
            typical_p=sampling.typical_p,
            repetition_penalty=sampling.repetition_penalty,
            repetition_window=sampling.repetition_window or None,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            logit_bias=dict(sampling.logit_bias),
            logprobs=sampling.logprobs,
        )
    except ValueError as error:
        raise InvalidJob(str(error), param=str(error).split(" ", 1)[0]) from error
