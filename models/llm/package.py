"""Which file of a downloaded language model plays which role; nothing but the directory is looked at.

Every generation of AXERA's layouts is taken as it is downloaded: layers beside everything else or in a
directory of their own, ``…_p128_l0_together.axmodel`` or ``…_l0.axmodel``, ``config.json`` full, empty or not
there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.manifest import PackageProblem, read_json

LAYER = re.compile(r"^(?P<prefix>.*?)(?:_p(?P<chunk>\d+))?_l(?P<index>\d+)(?:_together)?\.axmodel$")
POST = re.compile(r"^(?P<prefix>.*)_post\.axmodel(?:\.onnx)?$")
EMBEDDING = "model.embed_tokens.weight.bfloat16.bin"

_LAYER_COUNT = re.compile(r"--axmodel_num[ =]+\"?(\d+)")
_CONTEXT_NAME = re.compile(r"CTX(\d+)(K?)", re.IGNORECASE)
_LFS = b"version https://git-lfs"
_DEPTH = 2
"""How deep below the package layers and tokenizers are looked for; older packages nest them once."""


@dataclass(frozen=True, slots=True)
class LlmPackage:
    """The roles: ``layers`` in order, ``post`` the last graph, ``embedding`` bf16 ``[vocab, hidden]``.

    ``tokenizer`` is the directory that holds ``tokenizer.json``.
    """

    directory: Path
    prefix: str
    layers: tuple[Path, ...]
    post: Path
    embedding: Path
    tokenizer: Path
    config: Mapping[str, Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """What goes to the card or is mapped beside it."""
        return (*self.layers, self.post, self.embedding)

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    @property
    def family(self) -> str:
        return self.prefix.removesuffix("_text")


@dataclass(frozen=True, slots=True)
class _LayerSet:
    """Layer files that belong together: one directory, one prefix, one chunk size."""

    directory: Path
    prefix: str
    layers: Mapping[int, Path]


def is_llm(directory: Path) -> bool:
    """Whether anything in ``directory`` looks like the layers of a language model."""
    return bool(_layer_sets(directory))


def find_package(directory: Path) -> LlmPackage:
    """The roles of the files in ``directory``.

    Raises:
        PackageProblem: something is missing, doubled, or not what its name says.
    """
    layers = _the_layer_set(directory)
    config = _config(directory, layers.directory)
    package = LlmPackage(
        directory=directory,
        prefix=layers.prefix,
        layers=_in_order(layers.layers, _declared_layers(directory, config)),
        post=_post(layers),
        embedding=_embedding(directory, layers.directory, config),
        tokenizer=_tokenizer(directory),
        config=config,
    )
    for path in (*package.files, package.tokenizer / "tokenizer.json"):
        refuse_pointer(path)
    return package


def named_context(package: LlmPackage) -> int | None:
    """The context length that the names of the package's directories tell (``…-CTX2047``, ``…-CTX16K``)."""
    for name in (package.directory.name, package.layers[0].parent.name):
        found = _CONTEXT_NAME.search(name)
        if found:
            return int(found[1]) * (1024 if found[2] else 1)
    return None


def config_number(package: LlmPackage, *names: str) -> int | None:
    """A whole number under one of ``names`` in the package's configuration, or in that of its tokenizer."""
    for config in (package.config, read_json(package.tokenizer / "config.json")):
        for name in names:
            if isinstance(value := config.get(name), int) and not isinstance(value, bool):
                return value
    return None


def chat_template(tokenizer: Path) -> str:
    """The templates beside ``tokenizer.json``, all of them; empty when there is none."""
    path = tokenizer / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    return str(read_json(tokenizer / "tokenizer_config.json").get("chat_template") or "")


def knows_tools(template: str) -> bool:
    """Whether a chat template shows tools, and has them called in the form that is understood here."""
    return "tools" in template and "<tool_call>" in template


def knows_thinking(template: str) -> bool:
    """Whether models of a chat template write their thoughts between marks."""
    return "<think>" in template


def refuse_pointer(path: Path) -> None:
    """Raises PackageProblem when ``path`` is empty, or a Git LFS pointer instead of the file itself."""
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise PackageProblem(f"{path.name} is empty: download it again")
    if size_bytes < 1024:
        with path.open("rb") as file:
            if file.read(len(_LFS)) == _LFS:
                raise PackageProblem(
                    f"{path.name} is a Git LFS pointer of {size_bytes} bytes, not the file itself: "
                    "run `git lfs pull` in the package, or download it again"
                )


def directories(directory: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """``directory`` and what lies below it, hidden ones left out."""
    yield directory
    if depth:
        for child in sorted(directory.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from directories(child, depth - 1)


def _layer_sets(directory: Path) -> list[_LayerSet]:
    sets: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    for place in directories(directory):
        for path in sorted(place.glob("*.axmodel")):
            found = LAYER.match(path.name)
            if found:
                sets[place, found["prefix"], found["chunk"] or ""][int(found["index"])] = path
    return [_LayerSet(place, prefix, layers) for (place, prefix, _), layers in sets.items()]


def _the_layer_set(directory: Path) -> _LayerSet:
    sets = _layer_sets(directory)
    if not sets:
        raise PackageProblem("there are no layer files (…_l0_together.axmodel or …_l0.axmodel) in it")
    if len(sets) > 1:
        # Repositories for several chips hold one directory for each; ours is the AX650.
        sets = [each for each in sets if "ax650" in each.directory.name.lower()] or sets
    if len(sets) > 1:
        names = ", ".join(sorted(f"{each.directory.name}/{each.prefix}" for each in sets))
        raise PackageProblem(f"it holds {len(sets)} models ({names}): give each a directory of its own")
    return sets[0]


def _in_order(layers: Mapping[int, Path], declared: int | None) -> tuple[Path, ...]:
    count = max(max(layers) + 1, declared or 0)
    missing = [index for index in range(count) if index not in layers]
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        raise PackageProblem(
            f"{len(missing)} of {count} layer files are missing (layer {listed}): download them again"
        )
    if declared is not None and declared < count:
        raise PackageProblem(f"config.json speaks of {declared} layers, but there are {count} layer files")
    return tuple(layers[index] for index in range(count))


def _config(directory: Path, layer_directory: Path) -> Mapping[str, Any]:
    for place in (layer_directory, directory):
        config = read_json(place / "config.json")
        if config:
            return config
    return {}


def _declared_layers(directory: Path, config: Mapping[str, Any]) -> int | None:
    """How many layers the package says it has: in its config, else in the vendor's run scripts."""
    declared = config.get("axmodel_num")
    if isinstance(declared, int):
        return declared
    counts: set[int] = set()
    for script in sorted(directory.glob("run*.sh")):
        counts.update(map(int, _LAYER_COUNT.findall(script.read_text(encoding="utf-8", errors="replace"))))
    return counts.pop() if len(counts) == 1 else None


def _post(layers: _LayerSet) -> Path:
    # The vendor's listings sometimes hold `…_post.axmodel.onnx`, the same bytes under a name that viewers
    # open, beside or instead of the graph itself.
    named = {path.name: path for path in sorted(layers.directory.iterdir()) if POST.match(path.name)}
    for name in (f"{layers.prefix}_post.axmodel", f"{layers.prefix}_post.axmodel.onnx"):
        if name in named:
            return named[name]
    plain = [path for name, path in named.items() if name.endswith(".axmodel")]
    if len(plain) == 1:
        return plain[0]
    raise PackageProblem(f"the last graph {layers.prefix}_post.axmodel is missing: download it again")


def _embedding(directory: Path, layer_directory: Path, config: Mapping[str, Any]) -> Path:
    names = [str(config[key]) for key in ("filename_tokens_embed",) if config.get(key)]
    for place in (layer_directory, directory):
        for name in (*names, EMBEDDING):
            path = place / Path(name).name
            if path.is_file():
                return path
    raise PackageProblem(
        f"the embedding table {names[0] if names else EMBEDDING} is missing: download it again"
    )


def _tokenizer(directory: Path) -> Path:
    found = [place for place in directories(directory) if (place / "tokenizer.json").is_file()]
    if found:
        return found[0]
    raise PackageProblem(
        "there is no tokenizer.json in it: put tokenizer.json and tokenizer_config.json of the original "
        "Hugging Face model into its directory 'tokenizer'"
    )


def check_embedding(path: Path, hidden: int, vocab: int | None) -> int:
    """Rows of the bf16 table in ``path``. Raises PackageProblem when it cannot be ``[vocab, hidden]``."""
    size_bytes = path.stat().st_size
    rows, rest = divmod(size_bytes, hidden * 2)
    if rest:
        raise PackageProblem(
            f"{path.name} has {size_bytes} bytes, which is no whole number of rows of {hidden} bf16 values: "
            "it is cut short or belongs to another model"
        )
    if vocab is not None and rows < vocab:
        raise PackageProblem(
            f"{path.name} holds {rows} tokens, but the model makes {vocab}: it is cut short or belongs to "
            "another model"
        )
    return rows


def chip_names(paths: Sequence[Path]) -> str:
    """The chips that the directories of ``paths`` are named for, as people read them."""
    found = {
        match[0].upper()
        for path in paths
        for match in re.finditer(r"ax\d{3}[a-z]?", str(path.parent.name), re.I)
    }
    return ", ".join(sorted(found)) or "AX650N"
