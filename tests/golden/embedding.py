"""A tiny encoder of made-up weights, the same on every machine, as a package for the virtual card.

BERT as bge-small is one: two layers, heads, a word-piece tokenizer, and positions up to a length that tests
can exceed. Weights come from integers of a counter-based generator, so that no library has a say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, STEP_MS_KEY, encode_groups
from tests.golden.llm import uniform

ANSWERS = Path(__file__).parent / "embedding.json"
"""``texts``, their ``ids``, and by pooling the vectors that transformers computes in float32."""

LAYERS, HEADS, HIDDEN, INNER = 2, 4, 32, 64
CONTEXT = 24
EPSILON = 1e-12
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    "the",
    "card",
    "keep",
    "model",
    "warm",
    "and",
    "cool",
    "fire",
    "burn",
    "quick",
    "fox",
    "jump",
    "over",
)
PIECES = ("##ing", "##ed", ",", ".", "!")
VOCAB = (*MARKS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS, *PIECES)
TEXTS = (
    "The card keeps models warm, and cool!",
    "fire",
    "",
    "A quick fox jumped over the burning card.",
    "Überfüßig 中文 ?",
)
QUERY = "the fox: "
"""What stands before a query, in packages that have prompts."""


def config() -> dict[str, Any]:
    """config.json of the checkpoint."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(VOCAB),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "max_position_embeddings": CONTEXT,
        "type_vocab_size": 2,
        "layer_norm_eps": EPSILON,
        "pad_token_id": 0,
    }


def shapes() -> dict[str, tuple[int, ...]]:
    """Every weight, by the names that BertModel gives them."""
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCAB), HIDDEN),
        "embeddings.position_embeddings.weight": (CONTEXT, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        for part, rows, columns in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ):
            found[f"{at}{part}.weight"], found[f"{at}{part}.bias"] = (rows, columns), (rows,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"{at}{part}.weight"] = found[f"{at}{part}.bias"] = (HIDDEN,)
    return found


def weights() -> dict[str, NDArray[np.float32]]:
    """All weights, scaled so that attention is decided and no row is like another."""
    made = {}
    for index, (name, shape) in enumerate(shapes().items()):
        values = uniform(512_000 + index, shape)
        if name.endswith("LayerNorm.weight"):
            values = 1 + values / 4
        elif name.endswith(".bias"):
            values = values / 4
        elif "embeddings" not in name:
            values = values * 3 / np.sqrt(shape[-1])
        made[name] = values.astype(np.float32)
    return made


def write_tokenizer(directory: Path) -> None:
    """BERT's own: lower case, no accents, word pieces, each text between its marks."""
    ids = {token: index for index, token in enumerate(VOCAB)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(mark, ids[mark]) for mark in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(MARKS))
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(
        directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]"}
    )


def write_package(
    directory: Path,
    *,
    pooling: str | None = "cls_token",
    lengths: Sequence[int] = (CONTEXT,),
    prompts: bool = False,
    shorter: Sequence[int] = (),
    masked: bool = False,
    step_ms: float = 0.0,
) -> Path:
    """A package as one has it who downloads a compiled graph and the original's small files.

    ``pooling``: of sentence-transformers, ``mean_tokens`` and the like; None leaves its directory out.
    ``lengths``: the shape groups. ``masked``: the graph wants mask and types, as some exports do.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_graph(directory / "tiny-embed_u16_npu3.axmodel", lengths, masked=masked, step_ms=step_ms)
    write_tokenizer(directory)
    more = {"matryoshka_dimensions": list(shorter)} if shorter else {}
    _write_json(directory / "config.json", config() | more)
    modules = ("Transformer", "Pooling", "Normalize")
    _write_json(
        directory / "modules.json",
        [{"idx": n, "type": f"sentence_transformers.models.{name}"} for n, name in enumerate(modules)],
    )
    if pooling is not None:
        modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken", "weightedmean_tokens")
        about: dict[str, Any] = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
        about |= {"word_embedding_dimension": HIDDEN, "include_prompt": not prompts}
        (directory / "1_Pooling").mkdir(exist_ok=True)
        _write_json(directory / "1_Pooling" / "config.json", about)
    if prompts:
        told = {"prompts": {"query": QUERY, "document": ""}, "default_prompt_name": None}
        _write_json(directory / "config_sentence_transformers.json", told)
    return directory


class _Nodes:
    """Nodes as they are added; every operation returns the name of what it makes."""

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = dict(weights())

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"{kind.lower()}_{len(self.made)}"
        self.made.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.array(values, dtype)
        return name

    def linear(self, value: str, name: str) -> str:
        turned = self.constant(self.constants[f"{name}.weight"].T)
        return self.op("Add", self.op("MatMul", value, turned), f"{name}.bias")

    def norm(self, value: str, name: str, out: str | None = None) -> str:
        return self.op(
            "LayerNormalization", value, f"{name}.weight", f"{name}.bias", out=out, epsilon=EPSILON
        )

    def heads(self, value: str) -> str:
        split = self.op("Reshape", value, self.constant((0, 0, HEADS, HIDDEN // HEADS), np.int64))
        return self.op("Transpose", split, perm=[0, 2, 1, 3])


def _encoder(*, masked: bool) -> _Nodes:
    nodes = _Nodes()
    words = nodes.op("Gather", "embeddings.word_embeddings.weight", "input_ids")
    count = nodes.op("Shape", "input_ids", start=1, end=2)
    rows = ("embeddings.position_embeddings.weight", nodes.constant([0], np.int64), count)
    kinds = nodes.op("Gather", "embeddings.token_type_embeddings.weight", _types(nodes, masked=masked))
    hidden = nodes.op("Add", nodes.op("Add", words, nodes.op("Slice", *rows)), kinds)
    hidden = nodes.norm(hidden, "embeddings.LayerNorm")
    blocked = _blocked(nodes, masked=masked)
    for layer in range(LAYERS):
        out = "embeddings" if layer == LAYERS - 1 else None
        hidden = _layer(nodes, f"encoder.layer.{layer}.", hidden, blocked, out)
    return nodes


def _types(nodes: _Nodes, *, masked: bool) -> str:
    return "token_type_ids" if masked else nodes.constant([[0]], np.int64)


def _blocked(nodes: _Nodes, *, masked: bool) -> str:
    """−10⁹ where nobody is to look: behind the text."""
    ids = "attention_mask" if masked else "input_ids"
    is_pad = nodes.op("Equal", ids, nodes.constant(0, np.int32))
    bias = nodes.op("Mul", nodes.op("Cast", is_pad, to=TensorProto.FLOAT), nodes.constant(-1e9))
    return nodes.op("Unsqueeze", bias, nodes.constant([1, 2], np.int64))


def _layer(nodes: _Nodes, at: str, hidden: str, blocked: str, out: str | None) -> str:
    query, key, value = (
        nodes.heads(nodes.linear(hidden, f"{at}attention.self.{part}")) for part in ("query", "key", "value")
    )
    turned = nodes.op("Transpose", key, perm=[0, 1, 3, 2])
    scores = nodes.op("Mul", nodes.op("MatMul", query, turned), nodes.constant((HIDDEN // HEADS) ** -0.5))
    seen = nodes.op("MatMul", nodes.op("Softmax", nodes.op("Add", scores, blocked), axis=-1), value)
    joined = nodes.op("Transpose", seen, perm=[0, 2, 1, 3])
    joined = nodes.op("Reshape", joined, nodes.constant((0, 0, HIDDEN), np.int64))
    joined = nodes.op("Add", nodes.linear(joined, f"{at}attention.output.dense"), hidden)
    hidden = nodes.norm(joined, f"{at}attention.output.LayerNorm")
    inner = _gelu(nodes, nodes.linear(hidden, f"{at}intermediate.dense"))
    return nodes.norm(
        nodes.op("Add", nodes.linear(inner, f"{at}output.dense"), hidden), f"{at}output.LayerNorm", out
    )


def _gelu(nodes: _Nodes, value: str) -> str:
    bent = nodes.op("Erf", nodes.op("Mul", value, nodes.constant(0.5**0.5)))
    return nodes.op(
        "Mul", nodes.op("Mul", value, nodes.constant(0.5)), nodes.op("Add", bent, nodes.constant(1.0))
    )


def _write_graph(path: Path, lengths: Sequence[int], *, masked: bool, step_ms: float) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids") if masked else ("input_ids",)
    groups = [
        ShapeGroup(
            index,
            tuple(TensorSpec(name, "i32", (1, length)) for name in names),
            (TensorSpec("embeddings", "f32", (1, length, HIDDEN)),),
        )
        for index, length in enumerate(lengths)
    ]
    nodes = _encoder(masked=masked)
    used = {name for node in nodes.made for name in node.input}
    constants = [
        numpy_helper.from_array(values, name) for name, values in nodes.constants.items() if name in used
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, [1, "tokens"]) for name in names]
    output = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, "tokens", HIDDEN])
    graph = helper.make_graph(nodes.made, path.stem, inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    times = json.dumps([step_ms] * len(groups))
    about = {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups(groups), STEP_MS_KEY: times}
    helper.set_model_props(model, about)
    onnx.save(model, path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
