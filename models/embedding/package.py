"""Which file of a downloaded embedding model plays which role; nothing but the directory is looked at.

Served is the encoder form: one graph over the whole text, as AXERA-TECH/bge-small-en-v1.5, and beside it
what sentence-transformers keeps of the original model on Hugging Face:

    bge-small-en-v1.5_u16_npu3.axmodel     input_ids i32[1, 512] → f32[1, 512, 384], a row for each token
    tokenizer.json, tokenizer_config.json
    modules.json, 1_Pooling/config.json    how the rows become one; or [embedding] in hearth.toml
    config_sentence_transformers.json      prompts for queries and documents, if it has any
    sentence_bert_config.json, config.json the longest text, and how vectors may be shortened

Source: UKPLab/sentence-transformers, models/Pooling.py and SentenceTransformer.py, for what these files say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.embedding.pooling import Pooling
from models.llm.package import LAYER, POST, directories, refuse_pointer
from models.manifest import MANIFEST, Manifest, PackageProblem, read_json, read_json_list

LIKE = "AXERA-TECH/bge-small-en-v1.5"

_SIGNS = frozenset({"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"})
_NAMED = re.compile(
    r"^(.*[_-])?(bge|gte|e5|embed(ding|der)?|minilm|sbert)([_.-].*)?\.axmodel$", re.IGNORECASE
)
_POOLING_MODES: Mapping[str, Pooling] = {
    "cls": Pooling.CLS,
    "mean": Pooling.MEAN,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
}
_SERVED_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


@dataclass(frozen=True, slots=True)
class EmbeddingPackage:
    """The roles. ``tokenizer`` is the directory that holds ``tokenizer.json``.

    ``prompts``: what may stand before a text, by name; ``default_prompt`` is one of them, or None. Where not
    ``pools_prompt``, the rows of the prompt are left out of the vector. ``most_tokens``: longer texts are
    beyond what the model was trained on; None: not told. ``shorter``: numbers of dimensions that a vector may
    be cut to; ``shortens``: any number is one. ``hidden``: numbers in a vector, as far as files tell.
    """

    directory: Path
    graph: Path
    tokenizer: Path
    pooling: Pooling
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pools_prompt: bool = True
    most_tokens: int | None = None
    shorter: tuple[int, ...] = ()
    shortens: bool = False
    hidden: int | None = None
    family: str = ""


def is_embedding(directory: Path) -> bool:
    """Whether ``directory`` holds an encoder, or says of its layers that they make embeddings."""
    graphs = _graphs(directory)
    if _layers(directory):
        has_post = any(POST.match(path.name) for path in graphs)
        return _has_signs(directory) or (not has_post and _is_named(directory))
    return bool(graphs) and (_has_signs(directory) or any(_NAMED.match(path.name) for path in graphs))


def find_package(directory: Path, manifest: Manifest) -> EmbeddingPackage:
    """The roles of the files in ``directory``.

    Raises:
        PackageProblem: something is missing, or of a kind that is not served.
    """
    if _layers(directory):
        raise PackageProblem(
            "it is an embedding model made of a language model's layers, and those are not served yet: a "
            "card's way through layers is proved by the last graph, which such packages lack. Take a model "
            f"that is one graph, like {LIKE}"
        )
    graph = _the_graph(directory)
    tokenizer = _tokenizer(directory)
    refuse_pointer(graph)
    refuse_pointer(tokenizer / "tokenizer.json")
    config = read_json(tokenizer / "config.json") or read_json(directory / "config.json")
    pooling = _pooling_config(directory)
    _refuse_other_modules(directory)
    said = _first_json(directory, "config_sentence_transformers.json")
    prompts = _prompts(said)
    default = said.get("default_prompt_name")
    return EmbeddingPackage(
        directory=directory,
        graph=graph,
        tokenizer=tokenizer,
        pooling=_pooling(pooling, manifest),
        prompts=prompts,
        default_prompt=default if default in prompts else None,
        pools_prompt=pooling.get("include_prompt") is not False,
        most_tokens=_number(_first_json(directory, "sentence_bert_config.json"), "max_seq_length")
        or _number(config, "max_position_embeddings"),
        shorter=manifest.shorter or _numbers(config.get("matryoshka_dimensions")),
        shortens=config.get("is_matryoshka") is True and not manifest.shorter,
        hidden=_number(pooling, "word_embedding_dimension") or _number(config, "hidden_size"),
        family=str(config.get("model_type") or ""),
    )


def _graphs(directory: Path) -> list[Path]:
    return [path for place in directories(directory) for path in sorted(place.glob("*.axmodel"))]


def _layers(directory: Path) -> list[Path]:
    return [path for path in _graphs(directory) if LAYER.match(path.name)]


def _has_signs(directory: Path) -> bool:
    """Whether sentence-transformers, or the vendor's runner, says that it makes embeddings."""
    if read_json(directory / "config.json").get("is_embedding"):
        return True
    return any(
        (path.name in _SIGNS and path.is_file()) or (path.name.endswith("_Pooling") and path.is_dir())
        for place in directories(directory, 1)
        for path in place.iterdir()
    )


def _is_named(directory: Path) -> bool:
    names = {directory.name.lower(), *(path.parent.name.lower() for path in _layers(directory))}
    return any("embed" in name for name in names)


def _the_graph(directory: Path) -> Path:
    graphs = _graphs(directory)
    if len(graphs) > 1:
        names = ", ".join(path.name for path in graphs)
        raise PackageProblem(f"it holds {len(graphs)} graphs ({names}): keep one, or give each a directory")
    return graphs[0]


def _tokenizer(directory: Path) -> Path:
    found = [place for place in directories(directory) if (place / "tokenizer.json").is_file()]
    if found:
        return found[0]
    raise PackageProblem(
        "there is no tokenizer.json in it: put tokenizer.json, tokenizer_config.json, modules.json and the "
        "directory 1_Pooling of the original Hugging Face model into it"
    )


def _pooling_config(directory: Path) -> Mapping[str, Any]:
    for place in directories(directory):
        if place.name.endswith("_Pooling") and (config := read_json(place / "config.json")):
            return config
    return {}


def _pooling(config: Mapping[str, Any], manifest: Manifest) -> Pooling:
    if manifest.pooling is not None:
        return Pooling(manifest.pooling)
    prefix = "pooling_mode_"
    wanted = [
        name.removeprefix(prefix) for name, on in config.items() if name.startswith(prefix) and on is True
    ]
    names = [name.removesuffix("_tokens").removesuffix("_token") for name in wanted]
    if not names and isinstance(config.get("pooling_mode"), str):  # the shorter form of newer versions
        names = [config["pooling_mode"]]
    if len(names) == 1 and names[0] in _POOLING_MODES:
        return _POOLING_MODES[names[0]]
    if names:
        raise PackageProblem(
            f"its rows become one vector by {' and '.join(names)}, and only one of "
            f"{', '.join(_POOLING_MODES)} is served"
        )
    choices = ", ".join(f'"{pooling}"' for pooling in Pooling)
    raise PackageProblem(
        "nothing says how its rows become one vector: put modules.json and the directory 1_Pooling of the "
        f"original Hugging Face model into it, or [embedding] with pooling = one of {choices} into {MANIFEST}"
    )


def _refuse_other_modules(directory: Path) -> None:
    """A layer behind the pooling would have to be computed as well. modules.json is a list."""
    for place in directories(directory, 1):
        for kind in _module_types(place / "modules.json"):
            if kind not in _SERVED_MODULES:
                raise PackageProblem(
                    f"its modules.json has a {kind} layer behind the graph, which is not served"
                )


def _module_types(path: Path) -> list[str]:
    modules = [each for each in read_json_list(path) if isinstance(each, dict)]
    return [str(each.get("type", "")).rpartition(".")[2] for each in modules]


def _prompts(said: Mapping[str, Any]) -> dict[str, str]:
    prompts = said.get("prompts")
    if not isinstance(prompts, dict):
        return {}
    return {name: text for name, text in prompts.items() if isinstance(text, str)}


def _first_json(directory: Path, name: str) -> Mapping[str, Any]:
    for place in directories(directory):
        if found := read_json(place / name):
            return found
    return {}


def _number(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(sorted(each for each in value if type(each) is int and each > 0))
