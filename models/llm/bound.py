"""What an answer is bound to: a form of its own, calls whose arguments obey their schemas, or either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from models.llm.calls import CLOSE_CALL, OPEN_CALL
from models.llm.constraint import Constraint
from models.llm.template import ChatTokenizer
from tasks.errors import Unsupported
from tasks.grammar import ANY_OBJECT, CallMarks, grammar_of, grammar_of_calls
from tasks.jobs import ChatJob, Tool, ToolChoice


def bound_tools(job: ChatJob) -> tuple[Tool, ...]:
    """The tools that an answer may call, and is bound to when it does; none where calls stay free."""
    choice = job.tool_choice
    if choice == ToolChoice.NONE or not job.tools:
        return ()
    if choice not in (ToolChoice.AUTO, ToolChoice.REQUIRED):
        return tuple(tool for tool in job.tools if tool.name == choice)
    is_free = choice == ToolChoice.AUTO and job.json_schema is None
    return () if is_free and not any(tool.strict for tool in job.tools) else job.tools


def constraint_of(
    job: ChatJob, tokenizer: ChatTokenizer, vocab: int, opening: int | None, warnings: list[str]
) -> Constraint | None:
    """What the answer is bound to, if it is; ``opening`` is a token that may stand before it all.

    Adds to ``warnings`` what could not be bound. Raises Unsupported when that is not to be.
    """
    tools = bound_tools(job)
    if not tools:
        return _of_schema(job, tokenizer, vocab, opening)
    try:
        return _of_calls(job, tools, tokenizer, vocab, opening)
    except Unsupported as fault:
        if any(tool.strict for tool in tools):
            raise
        warnings.append(f"the arguments of calls are not bound to their schemas: {fault.message}")
    loose = [replace(tool, parameters=ANY_OBJECT) for tool in tools]
    return _of_calls(job, loose, tokenizer, vocab, opening)


def _of_schema(job: ChatJob, tokenizer: ChatTokenizer, vocab: int, opening: int | None) -> Constraint | None:
    if job.json_schema is None:
        return None
    return Constraint(grammar_of(job.json_schema), tokenizer.vocabulary(vocab), opening)


def _of_calls(
    job: ChatJob, tools: Sequence[Tool], tokenizer: ChatTokenizer, vocab: int, opening: int | None
) -> Constraint:
    has_begun = must_call(job)
    is_named = job.tool_choice not in (ToolChoice.AUTO, ToolChoice.REQUIRED)
    marks = CallMarks(OPEN_CALL, CLOSE_CALL, tokenizer.single(OPEN_CALL), tokenizer.single(CLOSE_CALL))
    answer = None if has_begun else job.json_schema
    try:
        grammar = grammar_of_calls(
            tools, marks, has_begun=has_begun, once=job.calls_once or is_named, answer=answer
        )
        return Constraint(grammar, tokenizer.vocabulary(vocab), None if has_begun else opening)
    except ValueError as fault:
        raise Unsupported(str(fault), param="tools") from None
    except Unsupported as fault:
        raise Unsupported(fault.message, param="tools") from None


def must_call(job: ChatJob) -> bool:
    """Whether the answer has to be a call: then its beginning is given."""
    return job.tool_choice not in (ToolChoice.AUTO, ToolChoice.NONE)
