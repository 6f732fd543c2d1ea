"""The network's measures, and the names and shapes of its weights in Qwen3's checkpoint form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Geometry:
    """A Qwen3 of any size; the defaults are the demo's."""

    vocabulary: int
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    head_size: int = 32
    inner: int = 512
    context: int = 512
    rope_theta: float = 10_000.0
    epsilon: float = 1e-6

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight's name and shape; the embedding is also the output matrix."""
        wide, narrow = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            shapes |= {
                at + "input_layernorm.weight": (self.hidden,),
                at + "self_attn.q_proj.weight": (wide, self.hidden),
                at + "self_attn.k_proj.weight": (narrow, self.hidden),
                at + "self_attn.v_proj.weight": (narrow, self.hidden),
                at + "self_attn.o_proj.weight": (self.hidden, wide),
                at + "self_attn.q_norm.weight": (self.head_size,),
                at + "self_attn.k_norm.weight": (self.head_size,),
                at + "post_attention_layernorm.weight": (self.hidden,),
                at + "mlp.gate_proj.weight": (self.inner, self.hidden),
                at + "mlp.up_proj.weight": (self.inner, self.hidden),
                at + "mlp.down_proj.weight": (self.hidden, self.inner),
            }
        return shapes | {"model.norm.weight": (self.hidden,)}

    def config(self, eos_id: int, pad_id: int) -> dict[str, Any]:
        """The checkpoint's config.json."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "intermediate_size": self.inner,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.epsilon,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "sliding_window": None,
            "bos_token_id": None,
            "eos_token_id": eos_id,
            "pad_token_id": pad_id,
            "torch_dtype": "bfloat16",
        }

    @classmethod
    def read(cls, directory: Path) -> Geometry:
        """The geometry of a checkpoint directory."""
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return cls(
            config["vocab_size"], config["hidden_size"], config["num_hidden_layers"],
            config["num_attention_heads"],
            config["num_key_value_heads"], config["head_dim"], config["intermediate_size"],
            config["max_position_embeddings"], config["rope_theta"], config["rms_norm_eps"],
        )  # fmt: skip
