"""A picture model on a card: which of its sizes are there, and a job drawn in one of them."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hardware.card import Card
from models.boundary import card_errors
from models.diffusion import identity
from models.diffusion.brush import Brush, Easel, TextCache
from models.diffusion.geometry import Size
from models.diffusion.graphs import CardGraphs, Progress
from models.diffusion.package import DiffusionPackage, Variant, assemble, size_of
from models.diffusion.plan import make_plan
from models.diffusion.sketch import PictureSketch, Spool
from models.diffusion.tokens import PromptTokenizer
from models.farewell import farewell
from models.manifest import PackageProblem
from models.need import NEEDS, remember_need
from tasks.artifacts import ArtifactStore
from tasks.board import PictureSize
from tasks.engines import Signals, Verdict
from tasks.errors import LoadFailed, SizeUnsupported
from tasks.events import Event, Timings
from tasks.jobs import ImageJob


class PictureEngine:
    """One loaded picture model. Draws one job at a time, on the thread that owns the card.

    A picture is a function of package and job: whoever draws it again draws the same bytes. Sizes come to the
    card as they are asked for.
    """

    context: int | None = None

    def __init__(self, name: str, card: Card, package: DiffusionPackage, data_dir: Path) -> None:
        self._name = name
        self._card = card
        self._variants = {size_of(variant): variant for variant in package.variants}
        self._graphs = CardGraphs(card)
        self._easels: dict[Size, Easel] = {}
        self._wanted: Size | None = None
        self._texts = TextCache()
        self._data_dir = data_dir
        self._store = ArtifactStore(data_dir)
        self._spool = Spool(self._store)
        self._thread = ThreadPoolExecutor(1, "noise")
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Card memory that all sizes on it take, as measured while they were loaded."""
        return self._size_bytes

    def has(self, size: PictureSize) -> bool:
        """Whether pictures of ``size`` can be drawn without loading anything."""
        return Size(size.height_px, size.width_px) in self._easels

    def bring(self, size: PictureSize) -> Generator[Progress, None, None]:
        """Put what pictures of ``size`` need on the card. What fails, or is closed half-way, leaves nothing.

        Raises:
            SizeUnsupported: the package has no such size.
            LoadFailed: its files do not make a model.
            HardwareError: the card refuses a file, is full (``trim`` may help) or is lost.
        """
        wanted = self._size(size)
        if wanted in self._easels:
            return
        self._wanted = wanted
        free_bytes = self._card.memory().free_bytes
        try:
            self._easels[wanted] = yield from self._set_up(self._variants[wanted], wanted)
        except PackageProblem as problem:
            self._tidy()
            raise LoadFailed(f"{self._name} cannot be loaded: {problem}") from problem
        except OSError as error:
            self._tidy()
            raise LoadFailed(f"{self._name} cannot be loaded: {error.filename}: {error.strerror}") from error
        taken_bytes = free_bytes - self._card.memory().free_bytes
        if not self._size_bytes and taken_bytes > 0:
            graphs = self._variants[wanted].graphs
            remember_need(graphs, self._card.info.firmware, taken_bytes, self._data_dir / NEEDS)
        self._size_bytes += taken_bytes

    def trim(self) -> int:
        """Give back the sizes that were not asked for last. Returns how many bytes that were."""
        before_bytes = self._card.memory().free_bytes
        self._easels = {size: easel for size, easel in self._easels.items() if size == self._wanted}
        self._tidy()
        freed_bytes = self._card.memory().free_bytes - before_bytes
        self._size_bytes -= freed_bytes
        return freed_bytes

    def close(self) -> None:
        """Give everything back. Closing twice is harmless."""
        self._easels.clear()
        self._graphs.close()
        self._thread.shutdown(wait=False)

    def draw(
        self, job: ImageJob, signals: Signals, load_ms: float = 0.0
    ) -> Generator[Event, None, PictureSketch | None]:
        """Draw ``job``; see ``tasks.engines.ImageEngine``. What it cannot honour is refused before card work.

        Its size must have been brought. ``load_ms``: what the job waited for that.
        """
        self._wanted = self._size(PictureSize(job.width_px, job.height_px))
        easel = self._easels[self._wanted]
        plan = make_plan(job, easel.model, easel.tokenizer, self._store)
        timings = Timings(load_ms=load_ms)
        brush = Brush(self._name, easel, plan, signals, self._texts, self._store, timings, self._thread)
        with card_errors():
            drawing = yield from brush.draw()
        if isinstance(drawing, Verdict):
            yield from farewell(drawing)
            return None
        return PictureSketch(job, drawing, self._store, self._spool)

    def _tidy(self) -> None:
        """Take the graphs off the card that no size on it needs."""
        self._graphs.keep_only(
            {path for easel in self._easels.values() for path in easel.model.variant.graphs}
        )

    def _size(self, size: PictureSize) -> Size:
        wanted = Size(size.height_px, size.width_px)
        if wanted not in self._variants:
            sizes = ", ".join(str(each) for each in self._variants)
            raise SizeUnsupported(f"{self._name} draws {sizes} pixels, not {wanted}", param="size")
        return wanted

    def _set_up(self, variant: Variant, size: Size) -> Generator[Progress, None, Easel]:
        # Host files first: what is wrong with them is told before the card is loaded.
        tokenizer = PromptTokenizer(variant.tokenizer)
        graphs = yield from self._graphs.load(variant)
        geometry = graphs.geometry()
        if geometry.size != size:
            raise PackageProblem(f"the graphs in {variant.directory} draw {geometry.size}, not {size}")
        sha256 = identity.read(variant, self._data_dir)
        return Easel(assemble(variant, geometry), graphs, tokenizer, sha256)
