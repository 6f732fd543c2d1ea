"""Ask transformers what the three golden models answer, and write it down.

    python -m tests.golden.make_llm

Needs torch and transformers, which nothing else here does. The reference computes in float32 over the whole
text for every token, without a cache. Prompts on which two tokens come close to a tie are passed over: there,
rounding and not the model would decide. How much rounding may do is asked too: transformers answers once more
in bfloat16, and how far that is from its own float32 is written down for each case.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.golden.llm import ANSWERS, LOGITS, MODELS, Golden, uniform, write_checkpoint

GENERATED = 12
MARGIN = 0.4
"""The least distance between the two best logits of any step."""

Rows = NDArray[np.float32]


def main() -> int:
    """The command. Returns the exit status."""
    answers: dict[str, Any] = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "margin": MARGIN,
        "models": {},
    }
    logits: dict[str, Rows] = {}
    torch.set_num_threads(1)  # the matrices are tiny
    for golden in MODELS:
        cases = answers["models"][golden.name] = []
        exact, rounded = (_model(golden, dtype) for dtype in (torch.float32, torch.bfloat16))
        for length in golden.prompt_lengths:
            prompt, answer, rows = _decided_case(exact, golden, length)
            error = _rows(rounded, prompt, answer) - rows
            cases.append({"prompt": prompt, "answer": answer, "bf16_rms": float(np.sqrt(np.mean(error**2)))})
            logits[f"{golden.name}.{len(cases) - 1}"] = rows
    ANSWERS.write_text(json.dumps(answers) + "\n", encoding="utf-8")
    np.savez_compressed(LOGITS, **logits)  # type: ignore[arg-type]  # numpy declares its one option before the arrays
    return 0


def _model(golden: Golden, dtype: torch.dtype) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(golden, Path(directory))
        return transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, attn_implementation="eager"
        )  # already in evaluation mode


def _rows(model: Any, prompt: list[int], answer: list[int]) -> Rows:
    """The logits before each token of ``answer``."""
    with torch.inference_mode():
        rows = model(torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    values: Rows = rows.float().numpy()
    return values


def _decided_case(model: Any, golden: Golden, length: int) -> tuple[list[int], list[int], Rows]:
    """The first prompt of ``length`` tokens whose answer no rounding can change, and is not all one token."""
    for attempt in range(10_000):
        numbers = uniform(golden.seed * 100_000 + length * 1000 + attempt, (length,))
        prompt = [3 + int((number + 1) / 2 * (golden.vocab - 3)) for number in numbers]
        answer, rows = _greedy(model, prompt)
        if answer is not None and len(set(answer)) >= GENERATED // 4:
            return prompt, answer, rows
    raise RuntimeError(f"{golden.name}: no decided prompt of {length} tokens")


def _greedy(model: Any, prompt: list[int]) -> tuple[list[int] | None, Rows]:
    ids = list(prompt)
    rows = []
    with torch.inference_mode():
        for _ in range(GENERATED):
            row = model(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy().astype(np.float32)
            second, first = np.sort(row)[-2:]
            if first - second < MARGIN:
                return None, row
            rows.append(row)
            ids.append(int(row.argmax()))
    return ids[len(prompt) :], np.stack(rows)


if __name__ == "__main__":
    sys.exit(main())
