"""Write sampler.json: what transformers' logits processors make of bf16 logits, in float64.

Run where torch and transformers are: ``python tests/golden/make_sampler.py``. The logits are all distinct,
because at a tie transformers keeps more tokens than were asked for and Hearth does not.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.generation import logits_process

VOCAB = 2600
PROMPT = [3, 7, 7, 11, 42, 42, 42, 100, 250, 251]
ANSWER = [7, 19, 300, 301, 19]
CASES: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.3},
    {"temperature": 1.0, "repetition_penalty": 2.5, "top_p": 0.95},
    {"temperature": 1.4, "min_p": 0.05},
    {"temperature": 1.1, "typical_p": 0.6},
    {"temperature": 0.9, "typical_p": 0.9, "top_k": 60},
    {"temperature": 0.9, "logit_bias": {"5": 4.5, "42": -3.25, "480": 100.0}, "top_k": 8},
    {"temperature": 1.2, "logit_bias": {"7": 6.5, "60": -100.0}, "repetition_penalty": 1.2, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 200, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.8},
)


def logits() -> np.ndarray[Any, Any]:
    """Distinct bf16 values around zero in random order, as bits."""
    generator = np.random.default_rng(20)
    drawn = (generator.normal(size=100 * VOCAB) * 3).astype(np.float32).view(np.uint32) >> 16
    distinct = np.unique(drawn.astype(np.uint16))
    return generator.permutation(generator.permutation(distinct)[:VOCAB])


def processors(case: dict[str, Any]) -> logits_process.LogitsProcessorList:
    """What ``generate`` puts together, in its order."""
    made = logits_process.LogitsProcessorList()
    if bias := case.get("logit_bias"):
        pairs: list[list[list[int] | float]] = [[[int(token)], value] for token, value in bias.items()]
        made.append(logits_process.SequenceBiasLogitsProcessor(pairs))
    if "repetition_penalty" in case:
        made.append(logits_process.RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    made.append(logits_process.TemperatureLogitsWarper(case["temperature"]))
    if "top_k" in case:
        made.append(logits_process.TopKLogitsWarper(case["top_k"]))
    if "top_p" in case:
        made.append(logits_process.TopPLogitsWarper(case["top_p"]))
    if "min_p" in case:
        made.append(logits_process.MinPLogitsWarper(case["min_p"]))
    if "typical_p" in case:
        made.append(logits_process.TypicalLogitsWarper(case["typical_p"]))
    return made


def main() -> None:
    bits = logits()
    raw = torch.from_numpy((bits.astype(np.uint32) << 16).view(np.float32)).double()[None]
    history = torch.tensor([PROMPT + ANSWER])
    results = []
    for case in CASES:
        probabilities = processors(case)(history, raw.clone())[0].softmax(-1)
        ids = torch.nonzero(probabilities)[:, 0]
        ids = ids[torch.argsort(probabilities[ids], descending=True)][:64]
        results.append(
            {
                "options": case,
                "size": int((probabilities > 0).sum()),
                "ids": ids.tolist(),
                "probabilities": [float(f"{value:.12g}") for value in probabilities[ids].tolist()],
            }
        )
    top = raw[0].log_softmax(-1).topk(20)
    logprobs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    document = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "bits": base64.b64encode(bits.astype("<u2").tobytes()).decode(),
        "prompt": PROMPT,
        "answer": ANSWER,
        "cases": results,
        "logprobs": [list(pair) for pair in logprobs],
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    Path(__file__).with_name("sampler.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
