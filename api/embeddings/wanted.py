"""What a request for embeddings asks for, as a job: everything is honoured, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.board import resolve_or_default
from api.errors import Refusal
from api.openai.faults import invalid, unsupported, wrong_type
from api.terms import Terms
from config.settings import Settings
from tasks.board import Catalog, Embedding, Model
from tasks.errors import UnknownModel
from tasks.jobs import EmbedJob, JobKind, Text

HOW_TO_ADD = (
    "no embedding model is installed here: put a package, like AXERA-TECH/bge-small-en-v1.5 with "
    "tokenizer.json and 1_Pooling of the original model, into the models directory (docs/packages.md)"
)
_MOST_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """What the vectors are to be like. See ``tasks.jobs.EmbedJob``."""

    dimensions: int | None = None
    prompt_name: str | None = None
    truncate: bool = False


def resolve_embedding(catalog: Catalog, name: str | None) -> Model:
    """The model of that name, or the first there is, if it makes embeddings.

    Raises:
        UnknownModel: there is none of that name, or none that makes embeddings at all; how to add one.
        ModelUnusable, Refusal: as ``api.board.resolve``.
    """
    makers = [model for model in catalog.models if model.kind == JobKind.EMBED]
    found = None if name is None else catalog.find(name)
    if found not in makers and all(model.problem for model in makers):
        broken = "".join(f"; {model.id} is there and cannot be used: {model.problem}" for model in makers)
        raise UnknownModel(HOW_TO_ADD + broken, param="model")
    return resolve_or_default(catalog, name, JobKind.EMBED)


def read_texts(value: Any, most: int, param: str, *, may_be_blank: bool = False) -> tuple[str, ...]:
    """A text, or a list of them, at most ``most``. Raises Refusal, naming the one at fault."""
    if isinstance(value, str):
        value, places = [value], [param]
    elif isinstance(value, list):
        places = [f"{param}[{index}]" for index in range(len(value))]
    else:
        raise wrong_type(param, "a string, or a list of strings", value)
    if len(value) > most:
        raise invalid(param, f"at most {most} texts; these are {len(value)}: send several requests")
    if not value and not may_be_blank:
        raise invalid(param, "a list that is not empty")
    for text, place in zip(value, places, strict=True):
        if not isinstance(text, str):
            raise wrong_type(place, "a string", text)
        if not text and not may_be_blank:
            raise invalid(place, "a string that is not empty")
    return tuple(value)


def read_ids(value: Any, most: int, param: str) -> tuple[tuple[int, ...], ...]:
    """A list of lists of token ids. Raises Refusal, naming the one at fault."""
    if not isinstance(value, list) or not value:
        raise invalid(param, "a list of lists of token ids")
    if len(value) > most:
        raise invalid(param, f"at most {most} lists; these are {len(value)}: send several requests")
    for index, ids in enumerate(value):
        if not isinstance(ids, list) or not ids:
            raise invalid(f"{param}[{index}]", "a list of token ids that is not empty")
        if not all(type(each) is int and 0 <= each <= _MOST_TOKEN_ID for each in ids):
            raise invalid(f"{param}[{index}]", "whole numbers from 0")
    return tuple(map(tuple, value))


def embed_job(
    inputs: Sequence[Text],
    shape: Shape,
    model: Model,
    terms: Terms,
    settings: Settings,
    *,
    metadata: dict[str, str] | None = None,
    warnings: tuple[str, ...] = (),
) -> EmbedJob:
    """The job that makes vectors of ``inputs``. Raises Refusal for what the model cannot make."""
    makes = model.embedding or Embedding(None)
    _refuse_dimensions(shape.dimensions, makes, model)
    if shape.prompt_name is not None and shape.prompt_name not in makes.prompts:
        known = f"it has {', '.join(makes.prompts)}" if makes.prompts else "it has none"
        raise unsupported("prompt_name", f"the model '{model.id}' has no such prompt; {known}")
    return EmbedJob(
        terms.submission(settings, metadata=metadata, warnings=warnings),
        model.id,
        tuple(inputs),
        shape.dimensions,
        shape.prompt_name,
        shape.truncate,
    )


def _refuse_dimensions(dimensions: int | None, makes: Embedding, model: Model) -> None:
    if dimensions is None or makes.allows(dimensions):
        return
    makes_told = f"{makes.dimensions} numbers" if makes.dimensions else "a number of numbers of its own"
    if makes.shortens:
        told = f"makes vectors of {makes_told}, which may be cut to fewer"
    elif makes.shorter:
        told = f"makes vectors of {makes_told}, which may be cut to {', '.join(map(str, makes.shorter))}"
    else:
        told = f"makes vectors of {makes_told}, and its package does not say that they may be cut"
    raise unsupported("dimensions", f"the model '{model.id}' {told}; leave it out")


def refuse_ids(model: Model) -> Refusal:
    """Why token ids are not taken where any client's may come."""
    return unsupported(
        "input",
        f"token ids are not taken here: those of another model's tokenizer cannot be told from those of "
        f"'{model.id}', and the vectors would mean nothing. Send text; LangChain does so with "
        "OpenAIEmbeddings(check_embedding_ctx_length=False). Ids of the model's own tokenizer go into "
        "'token_ids' of a job of kind 'embed' (POST /v1/jobs)",
    )
