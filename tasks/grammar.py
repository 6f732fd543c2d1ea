"""JSON schemas as grammars for constrained answers: the same for who accepts a job and who runs it.

Source: guidance-ai/llguidance, docs/json_schema.md, for what of JSON Schema is understood.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

ANY_OBJECT = '{"type":"object"}'
"""The schema of "some JSON object"."""

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space is fixed: a model that is free to fill lines with it now and then never comes to an end."""
_MAX_SYMBOLS = 50_000
"""Of a grammar. Checking one of this size takes 50 ms of a server's core; most schemas have some hundred."""


def grammar_of(schema: str) -> str:
    """The grammar of the JSON texts that ``schema`` allows. Raises ValueError unless it is a JSON object."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)  # type: ignore[arg-type]


def limits() -> Any:
    """What a grammar may cost: ``llguidance.LLParserLimits``."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_grammar_size=_MAX_SYMBOLS)


@lru_cache(maxsize=64)
def fault_of(schema: str) -> str | None:
    """Why no answer can be bound to ``schema``, in words for its author; None when it can."""
    from llguidance import LLMatcher

    try:
        if not isinstance(json.loads(schema), dict):
            return "a schema should be an object"
        # The names of the library's classes say nothing to who wrote the schema: only its messages do.
        return LLMatcher.validate_grammar(grammar_of(schema), limits=limits()) or None
    except ValueError as error:
        return str(error)
