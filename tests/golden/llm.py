"""Three tiny language models of made-up weights, the same on every machine, and how each is exported.

They differ in everything a package can differ in: layers, heads, width of K/V, chunk, ladder, biases, norms,
tied and untied. Weights come from integers of a counter-based generator, so that no library has a say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from demo.checkpoint import read_checkpoint, write_safetensors
from demo.export_llm import export

ANSWERS = Path(__file__).parent / "llm.json"
LOGITS = Path(__file__).parent / "llm.npz"
"""``{model}.{case}``: float32[generated, vocab], what transformers computes in float32."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{%- for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Golden:
    """One model's measures, and the shape groups it is exported with."""

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocab: int
    is_tied: bool
    kv_length: int
    chunk: int
    histories: tuple[int, ...]
    seed: int

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Shorter than a chunk, exactly one, one more, several groups, and more than the last one holds."""
        beyond = self.histories[-1] + self.chunk + 3
        return (self.chunk - 5, self.chunk, self.chunk + 1, 2 * self.chunk + 3, beyond)

    def config(self) -> dict[str, Any]:
        """config.json of the checkpoint."""
        return {
            "architectures": [f"{self.family.capitalize()}ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "intermediate_size": self.inner,
            "hidden_act": "silu",
            "max_position_embeddings": 1024,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-6,
            "attention_bias": False,
            "tie_word_embeddings": self.is_tied,
            "use_sliding_window": False,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight."""
        wide, narrow = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, self.hidden)}
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            for part, rows in (("q", wide), ("k", narrow), ("v", narrow)):
                shapes[f"{at}self_attn.{part}_proj.weight"] = (rows, self.hidden)
                if self.family == "qwen2":
                    shapes[f"{at}self_attn.{part}_proj.bias"] = (rows,)
                elif part != "v":
                    shapes[f"{at}self_attn.{part}_norm.weight"] = (self.head_size,)
            shapes[at + "self_attn.o_proj.weight"] = (self.hidden, wide)
            shapes[at + "mlp.gate_proj.weight"] = (self.inner, self.hidden)
            shapes[at + "mlp.up_proj.weight"] = (self.inner, self.hidden)
            shapes[at + "mlp.down_proj.weight"] = (self.hidden, self.inner)
            shapes[at + "input_layernorm.weight"] = (self.hidden,)
            shapes[at + "post_attention_layernorm.weight"] = (self.hidden,)
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.is_tied:
            shapes["lm_head.weight"] = (self.vocab, self.hidden)
        return shapes


QWEN25 = Golden(
    "qwen25", "qwen2", 3, 64, 4, 2, 16, 96, 320, False, 95, 16, (0, 16, 32, 48), seed=25
)  # fmt: skip
QWEN3 = Golden("qwen3", "qwen3", 2, 96, 6, 3, 32, 128, 300, True, 63, 8, (0, 8, 24), seed=3)
WIDE = Golden("wide", "qwen3", 4, 64, 8, 8, 128, 96, 288, False, 160, 32, (0, 64), seed=2048)
MODELS = (QWEN25, QWEN3, WIDE)


def uniform(seed: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in [−1, 1), from raw integers, which numpy promises never to change."""
    count = int(np.prod(shape))
    raw = np.random.Philox(key=seed).random_raw(count)
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1).reshape(shape)


def weights(model: Golden) -> dict[str, NDArray[Any]]:
    """All weights in bf16. Scaled so that attention is decided and logits are far apart."""
    tensors = {}
    for index, (name, shape) in enumerate(model.shapes().items()):
        values = uniform(model.seed * 1000 + index, shape)
        if name.endswith("norm.weight"):
            values = 1 + values / 4
        elif name.endswith(("embed_tokens.weight", ".bias")):
            values = values * 1.5
        elif "lm_head" in name:
            values = values * 8 / np.sqrt(shape[-1])
        else:
            values = values * 3 / np.sqrt(shape[-1])
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            values = values * 1.5
        tensors[name] = values.astype(ml_dtypes.bfloat16)
    return tensors


def write_checkpoint(model: Golden, directory: Path) -> None:
    """A Hugging Face checkpoint directory, tokenizer included."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(model.config()), encoding="utf-8")
    write_safetensors(directory / "model.safetensors", weights(model))
    write_tokenizer(directory, model.vocab)


def write_package(model: Golden, directory: Path) -> None:
    """The model as a package for the virtual card, in ``directory``; its checkpoint lies beside it."""
    checkpoint = directory.with_name(directory.name + "-checkpoint")
    write_checkpoint(model, checkpoint)
    export(
        read_checkpoint(checkpoint),
        directory,
        kv_length=model.kv_length,
        chunk=model.chunk,
        histories=model.histories,
    )


def write_tokenizer(directory: Path, vocab: int) -> None:
    """A byte-level tokenizer: the special tokens, every byte, then pairs of letters up to ``vocab``."""
    letters = "etaoinshrdlu"
    pairs = [first + second for first in letters for second in letters]
    tokens = [*SPECIAL, *byte_alphabet().values(), *pairs][:vocab]
    merges = [list(pair) for pair in pairs[: vocab - len(SPECIAL) - 256]]
    added = [
        {"id": index, "content": token, "special": True, "lstrip": False, "rstrip": False,
         "normalized": False, "single_word": False}
        for index, token in enumerate(SPECIAL)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def byte_alphabet() -> dict[int, str]:
    """The character that byte-level vocabularies write for each byte. Source: openai/gpt-2, encoder.py."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
