"""``GET /v1/models``: the catalog in OpenAI's words."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api import context
from api.board import CardFacts
from api.openai.schemas import EmbeddingFacts, ModelFacts, ModelList, ModelOut, PictureFacts
from api.respond import as_json, errors
from tasks.board import Embedding, Model, Pictures
from tasks.errors import UnknownModel

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", response_model=ModelList, responses=errors(503), operation_id="list_models")
async def index(request: Request) -> Response:
    """The models that can be asked, and beside them those that were found but cannot be used, and why."""
    board = context.of(request).board
    catalog, cards = await board.catalog(), await board.cards()
    margin_bytes = _margin_bytes(request)
    told = [model_out(model, cards, margin_bytes) for model in catalog.models]
    usable = [model for model in told if model.hearth.problem is None]
    return as_json(
        ModelList(data=usable, unusable=[model for model in told if model.hearth.problem is not None])
    )


@router.get(
    "/v1/models/{name:path}", response_model=ModelOut, responses=errors(404, 503), operation_id="show_model"
)
async def show(request: Request, name: str) -> Response:
    """One model by id or alias, the unusable ones included."""
    board = context.of(request).board
    model = (await board.catalog()).find(name)
    if model is None:
        raise UnknownModel(f"there is no model {name[:100]!a} here", param="model")
    return as_json(model_out(model, await board.cards(), _margin_bytes(request)))


def model_out(model: Model, cards: tuple[CardFacts, ...], margin_bytes: int) -> ModelOut:
    on_cards = {
        resident.model: resident for card in cards if card.residents for resident in card.residents.models
    }
    resident = on_cards.get(model.id)
    facts = ModelFacts(
        kind=model.kind,
        family=model.family,
        context=model.context if resident is None or resident.context is None else resident.context,
        size_bytes=model.size_bytes,
        aliases=list(model.aliases),
        is_demo=model.is_demo,
        knows_tools=model.knows_tools,
        knows_thinking=model.knows_thinking,
        is_resident=resident is not None,
        needs_bytes=model.needs_bytes,
        needs_basis=model.needs_basis,
        fits=_fits(model, cards, margin_bytes),
        pictures=None if model.pictures is None else _pictures(model.pictures),
        embedding=None if model.embedding is None else _embedding(model.embedding),
        problem=model.problem,
    )
    return ModelOut(id=model.id, created=model.created_at_s, hearth=facts)


def _fits(model: Model, cards: tuple[CardFacts, ...], margin_bytes: int) -> bool | None:
    """Whether one of the cards can hold the model when nothing else is on it."""
    told = [card.residents for card in cards if card.residents is not None]
    if model.needs_bytes is None or not told:
        return None
    rooms = [card.memory_total_bytes - (0 if card.is_virtual else margin_bytes) for card in told]
    return model.needs_bytes <= max(rooms)


def _margin_bytes(request: Request) -> int:
    return context.of(request).settings.models.margin_mib << 20


def _embedding(makes: Embedding) -> EmbeddingFacts:
    return EmbeddingFacts(
        dimensions=makes.dimensions,
        shorter=list(makes.shorter),
        shortens=makes.shortens,
        prompts=list(makes.prompts),
    )


def _pictures(can: Pictures) -> PictureFacts:
    return PictureFacts(
        sizes=[str(size) for size in can.sizes],
        steps=list(can.steps),
        default_steps=can.default_steps,
        from_pictures=can.from_pictures,
    )
