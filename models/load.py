"""From a catalog entry to a model that answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path

from config.groups import ModelSettings
from hardware.card import Card
from models.diffusion.engine import PictureEngine
from models.diffusion.package import find_package as find_pictures
from models.diffusion.sketch import PictureSketch, Spool
from models.embedding.engine import EmbeddingEngine
from models.embedding.geometry import read_encoder
from models.embedding.package import find_package as find_embedding
from models.embedding.tokens import TextTokenizer
from models.llm.cache import MIB, ConversationCache
from models.llm.context import Context
from models.llm.engine import LlmEngine
from models.llm.network import Network, Progress
from models.llm.package import find_package
from models.llm.plan import MeasuredCosts
from models.llm.template import ChatTokenizer
from models.llm.ways import choose_ways
from models.manifest import PackageProblem, read_manifest
from models.need import NEEDS, remember_need
from tasks.artifacts import ArtifactStore
from tasks.board import Model, PictureSize
from tasks.errors import LoadFailed, ModelUnusable
from tasks.jobs import ImageJob, JobKind

PROBES = "probes.json"
"""Under the data directory: what was found out about packages on this card."""

LoadedModel = LlmEngine
"""What ``load`` returns: ``context``, ``size_bytes``, ``stream(job, emitted, signals)`` and ``close()``."""


def load(
    card: Card,
    model: Model,
    progress: Callable[[int, int], None],
    options: ModelSettings | None = None,
    data_dir: Path | None = None,
) -> LoadedModel:
    """``loading`` for a chat model, all at once; ``progress(done, total)`` is called after each file."""
    steps = _loading_chat(card, model, options, data_dir)
    try:
        while True:
            progress(*next(steps))
    except StopIteration as end:
        loaded: LoadedModel = end.value
        return loaded
    finally:
        steps.close()


def loading(
    card: Card,
    model: Model,
    size: PictureSize | None = None,
    *,
    options: ModelSettings | None = None,
    data_dir: Path,
) -> Generator[Progress, None, LoadedModel | PictureEngine | EmbeddingEngine]:
    """Put ``model`` on ``card``, yielding (files done, files in all); returns the model, ready to work.

    ``size`` is what a picture model is wanted for; None: the first it has. What a probe of the card finds
    out, and how much memory the model took, is remembered in ``data_dir``, where pictures go as well. A load
    that fails or is closed half-way leaves nothing behind.

    Raises:
        ModelUnusable: the catalog says so.
        SizeUnsupported: a picture model has no such size.
        LoadFailed: the package's files do not make a model; the message says which and why.
        HardwareError: the card refuses a file, is full (``OutOfCardMemory``: room can be made) or is lost.
    """
    if model.pictures is not None and model.problem is None:
        return (yield from _loading_pictures(card, model, size or model.pictures.sizes[0], data_dir))
    if model.kind == JobKind.EMBED and model.problem is None:
        return (yield from _loading_embedding(card, model, data_dir))
    return (yield from _loading_chat(card, model, options, data_dir))


def find_sketch(job: ImageJob, data_dir: Path) -> PictureSketch | None:
    """The picture of ``job`` that an earlier attempt has drawn and not brought into a file."""
    store = ArtifactStore(data_dir)
    spool = Spool(store)
    drawing = spool.find(job.submission.id)
    return PictureSketch(job, drawing, store, spool) if drawing else None


def _loading_pictures(
    card: Card, model: Model, size: PictureSize, data_dir: Path
) -> Generator[Progress, None, PictureEngine]:
    try:
        package = find_pictures(Path(model.directory))
    except (PackageProblem, OSError) as problem:
        raise LoadFailed(f"{model.id} cannot be loaded: {problem}") from problem
    engine = PictureEngine(model.id, card, package, data_dir)
    try:
        yield from engine.bring(size)
    except BaseException:
        engine.close()
        raise
    return engine


def _loading_embedding(
    card: Card, model: Model, data_dir: Path
) -> Generator[Progress, None, EmbeddingEngine]:
    directory = Path(model.directory)
    try:
        package = find_embedding(directory, read_manifest(directory))
        tokenizer = TextTokenizer(package.tokenizer)
    except (PackageProblem, OSError) as problem:
        raise LoadFailed(f"{model.id} cannot be loaded: {problem}") from problem
    free_bytes = card.memory().free_bytes
    graph = card.load(package.graph)
    try:
        yield 1, 1
        geometry = read_encoder(graph.groups)
        size_bytes = free_bytes - card.memory().free_bytes
        if size_bytes > 0:
            remember_need((package.graph,), card.info.firmware, size_bytes, data_dir / NEEDS)
        return EmbeddingEngine(model.id, graph, geometry, package, tokenizer, size_bytes)
    except PackageProblem as problem:
        graph.close()
        raise LoadFailed(f"{model.id} cannot be loaded: {problem}") from problem
    except BaseException:
        graph.close()
        raise


def _loading_chat(
    card: Card, model: Model, options: ModelSettings | None, data_dir: Path | None
) -> Generator[Progress, None, LoadedModel]:
    if model.problem is not None:
        raise ModelUnusable(f"{model.id} cannot be used: {model.problem}", param="model")
    try:
        package = find_package(Path(model.directory))
        # Host files first: what is wrong with them is told before minutes of loading.
        tokenizer = ChatTokenizer.load(package)
        free_bytes = card.memory().free_bytes
        network = yield from Network.load(card, package)
    except PackageProblem as problem:
        raise LoadFailed(f"{model.id} cannot be loaded: {problem}") from problem
    except OSError as error:
        raise LoadFailed(f"{model.id} cannot be loaded: {error.filename}: {error.strerror}") from error
    try:
        _refuse_strange_tokens(model, tokenizer, network)
        options = options or ModelSettings()
        choose_ways(network, package, options, data_dir / PROBES if data_dir else None)
        context = _context(network, options)
        size_bytes = free_bytes - card.memory().free_bytes
        if data_dir is not None and size_bytes > 0:
            graphs = (*package.layers, package.post)
            remember_need(graphs, card.info.firmware, size_bytes, data_dir / NEEDS)
        return LlmEngine(model.id, network, tokenizer, size_bytes, context)
    except BaseException:
        network.close()
        raise


def _refuse_strange_tokens(model: Model, tokenizer: ChatTokenizer, network: Network) -> None:
    if tokenizer.size > network.embedding_rows:
        raise LoadFailed(
            f"{model.id} cannot be loaded: its tokenizer knows {tokenizer.size} tokens, its embedding table "
            f"holds {network.embedding_rows}: they belong to different models"
        )


def _context(network: Network, options: ModelSettings) -> Context:
    cache = ConversationCache(network, options.cache_slots, options.cache_reserve_mib * MIB)
    return Context(network, cache, MeasuredCosts(_measure_step(network)))


def _measure_step(network: Network) -> float:
    """Seconds of one decoded token. The first step is slower, and better taken here than by a job.

    What it leaves in row 0 of the cache, the next prompt overwrites.
    """
    network.decoder.forward(0, 0)
    began_s = time.monotonic()
    network.decoder.forward(0, 0)
    return time.monotonic() - began_s
