"""Ask transformers what vectors the golden encoder makes, and write them down.

    python -m tests.golden.make_embedding

Needs torch and transformers, which nothing else here does. The reference is ``BertModel`` in float32 with an
attention mask, over texts that are filled up to the full length, as a compiled graph is fed; pooled and
normalised as sentence-transformers does it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from demo.checkpoint import write_safetensors
from tests.golden.embedding import ANSWERS, CONTEXT, QUERY, TEXTS, config, weights, write_tokenizer

transformers: Any = import_module("transformers")  # of whose types only a part is there
_DIGITS = 9


def main() -> int:
    """The command. Returns the exit status."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "config.json").write_text(json.dumps(config()), encoding="utf-8")
        write_safetensors(directory / "model.safetensors", dict(weights()))
        write_tokenizer(directory)
        model = transformers.BertModel.from_pretrained(
            directory, add_pooling_layer=False, attn_implementation="eager"
        )
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(directory / "tokenizer.json"), pad_token="[PAD]"
        )
        answers = _answers(model, tokenizer)
    ANSWERS.write_text(json.dumps(answers, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _answers(model: Any, tokenizer: Any) -> dict[str, Any]:
    plain = [_vectors(model, tokenizer, text) for text in TEXTS]
    # A query: its prompt is read by the model and has no part in the mean.
    prompt = len(tokenizer(QUERY)["input_ids"]) - 1
    query = _vectors(model, tokenizer, QUERY + TEXTS[1], skip=prompt)
    return {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "texts": list(TEXTS),
        "ids": [tokenizer(text)["input_ids"] for text in TEXTS],
        **{pooling: [vectors[pooling] for vectors in plain] for pooling in plain[0]},
        "query": query["mean"],
    }


def _vectors(model: Any, tokenizer: Any, text: str, skip: int = 0) -> dict[str, list[float]]:
    fed = tokenizer(text, padding="max_length", max_length=CONTEXT, return_tensors="pt")
    fed.pop("token_type_ids", None)
    with torch.inference_mode():
        rows = model(**fed).last_hidden_state[0]
    count = int(fed["attention_mask"].sum())
    own = rows[skip:count]
    pooled = {"cls": rows[0], "mean": own.mean(dim=0), "max": own.max(dim=0).values, "last": rows[count - 1]}
    return {
        name: [round(float(each), _DIGITS) for each in torch.nn.functional.normalize(vector, dim=0).numpy()]
        for name, vector in pooled.items()
    }


if __name__ == "__main__":
    sys.exit(main())
