"""Train the demo model: ``python -m demo.chat.train --minutes 45``. Needs torch and safetensors.

Recipe: talks laid end to end, each attending to itself; loss on the assistant's ids only; Muon on
the matrices, AdamW on the embedding and the norms; the learning rate falls linearly with the clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from demo.chat.corpus import talks
from demo.chat.geometry import Geometry
from demo.chat.network import Batch, Weights, batch_of, initial, loss
from demo.chat.talk import Talk, pieces
from demo.chat.tokenizer import HERE, SPECIAL, build, grown, save

# Of a question that stands alone the first words of the answer decide: the rest is mostly left out.
SHORTENED = {"fact": 8, "refusal": 3, "small talk": 4}
WHOLE = 0.2
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of Muon: pushes all singular values towards 1


@dataclass
class Run:
    """A training run: what is saved to go on later."""

    weights: Weights
    momentum: Weights
    adam: dict[str, Any] | None = None
    step: int = 0
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)


def batches(
    tokenizer: Tokenizer, corpus: Iterator[Talk], batch_tokens: int, context: int, rng: Random
) -> Iterator[Batch]:
    """Endless batches of about ``batch_tokens`` ids."""
    chosen: list[tuple[list[int], list[bool]]] = []
    size = 0
    for talk in corpus:
        ids, learned = _encode(tokenizer, pieces(talk))
        if len(ids) > context:
            continue
        if talk.category in SHORTENED and rng.random() > WHOLE:
            end = learned.index(True) + SHORTENED[talk.category]
            ids, learned = ids[:end], learned[:end]
        chosen.append((ids, learned))
        size += len(ids)
        if size >= batch_tokens:
            yield batch_of(chosen)
            chosen, size = [], 0


def _encode(tokenizer: Tokenizer, parts: Sequence[tuple[str, bool]]) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    learned: list[bool] = []
    for text, wanted in parts:
        found = tokenizer.encode(text, add_special_tokens=False).ids
        ids += found
        learned += [wanted] * len(found)
    return ids, learned


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with all singular values near 1, for ``float32[n, rows <= columns, columns]``."""
    a, b, c = NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def muon(
    weights: Weights, momentum: Weights, names: Sequence[Sequence[str]], rate: float, decay: float
) -> None:
    """One Muon step (Jordan 2024) on groups of equally shaped matrices, with Nesterov momentum 0.95."""
    for group in names:
        updates = []
        for name in group:
            gradient = weights[name].grad
            momentum[name].lerp_(gradient, 0.05)
            update = gradient.lerp(momentum[name], 0.95)
            updates.append(update.mT if update.shape[0] > update.shape[1] else update)
        for name, update in zip(group, orthogonal(torch.stack(updates)), strict=True):
            weight = weights[name]
            tall = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
            weight.mul_(1 - rate * decay)
            weight.add_(update.mT if weight.shape[0] > weight.shape[1] else update, alpha=-rate * tall)


def _alike(geometry: Geometry) -> list[list[str]]:
    """The matrices Muon trains, grouped by shape up to transposition."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, shape in geometry.shapes().items():
        if len(shape) == 2 and "embed" not in name:
            groups.setdefault(tuple(sorted(shape)), []).append(name)
    return list(groups.values())


def train(run: Run, geometry: Geometry, tokenizer: Tokenizer, args: argparse.Namespace) -> None:
    """Train until ``args.minutes`` of training are over, saving now and then."""
    groups = _alike(geometry)
    muoned = {name for group in groups for name in group}
    rest = [weight for name, weight in run.weights.items() if name not in muoned]
    adam = torch.optim.AdamW(rest, lr=args.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    if run.adam:
        adam.load_state_dict(run.adam)
    total_s, last, saved = args.minutes * 60, time.monotonic(), time.monotonic()
    # A seed of its own for every start, so that a resumed run sees new talks.
    first, later = (talks(args.seed + 1000 * run.step, primer=primer) for primer in (True, False))
    primed_s = args.primer * total_s
    corpus = (next(first if run.elapsed_s < primed_s else later) for _ in count())
    for batch in batches(tokenizer, corpus, args.batch_tokens, geometry.context, Random(args.seed)):
        fade = max(0.0, 1 - run.elapsed_s / total_s) * min(1.0, (run.step + 1) / 20)
        current = loss(run.weights, geometry, batch)
        current.backward()
        with torch.no_grad():
            muon(run.weights, run.momentum, groups, args.muon_rate * fade, args.decay)
            adam.param_groups[0]["lr"] = args.adam_rate * fade
            adam.step()
        for weight in run.weights.values():
            weight.grad = None
        now = time.monotonic()
        run.elapsed_s, last = run.elapsed_s + now - last, now
        run.step += 1
        run.losses.append(current.item())
        if run.step % 50 == 0:
            mean = sum(run.losses[-50:]) / 50
            print(f"step {run.step} {run.elapsed_s:.0f}s loss {mean:.4f} tokens {len(batch.ids)}", flush=True)
        done = run.elapsed_s >= total_s
        if done or now - saved > args.save_every_s:
            run.adam, saved = adam.state_dict(), now
            keep(run, geometry, tokenizer, args.work)
        if done:
            return


def begun(directory: Path) -> tuple[Run, Tokenizer]:
    """A run that begins with the weights of a checkpoint, and its tokenizer with the words that are new."""
    tokenizer = grown(Tokenizer.from_file(str(directory / "tokenizer.json")))
    loaded = load_file(directory / "model.safetensors")
    weights = {name: weight.to(torch.float32) for name, weight in loaded.items()}
    known = weights["model.embed_tokens.weight"]
    fresh = torch.randn(
        _padded(tokenizer) - len(known), known.shape[1], generator=torch.Generator().manual_seed(1)
    )
    weights["model.embed_tokens.weight"] = torch.cat((known, fresh * known.std() * 0.5))
    return Run(weights, {name: torch.zeros_like(weight) for name, weight in weights.items()}), tokenizer


def _padded(tokenizer: Tokenizer) -> int:
    return -(-tokenizer.get_vocab_size() // 64) * 64


def keep(run: Run, geometry: Geometry, tokenizer: Tokenizer, work: Path) -> None:
    """Save what ``--resume`` needs and a checkpoint directory, replacing the last ones whole."""
    work.mkdir(parents=True, exist_ok=True)
    torch.save(vars(run), work / "run.pt.new")
    (work / "run.pt.new").replace(work / "run.pt")
    write_checkpoint(run.weights, geometry, tokenizer, work / "checkpoint")


def write_checkpoint(weights: Weights, geometry: Geometry, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a Hugging Face Qwen3 directory: bf16 weights, configuration, tokenizer."""
    save(tokenizer, directory)
    eos, pad = (
        tokenizer.encode(mark, add_special_tokens=False).ids[0] for mark in ("<|im_end|>", SPECIAL[0])
    )
    config = geometry.config(eos, pad)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {"eos_token_id": [eos, pad], "pad_token_id": pad, "do_sample": False}
    (directory / "generation_config.json").write_text(
        json.dumps(generation, indent=2) + "\n", encoding="utf-8"
    )
    halves = {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in weights.items()}
    save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the demo chat model.")
    parser.add_argument(
        "--minutes", type=float, default=45, help="training time in all, resumed parts included"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument(
        "--primer", type=float, default=0.12, help="share of the time that drills copying first"
    )
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.004)
    parser.add_argument("--decay", type=float, default=0.0, help="weight decay of the matrices")
    parser.add_argument("--save-every-s", type=float, default=180)
    parser.add_argument(
        "--work", type=Path, default=HERE / "work", help="where the run is kept; holds checkpoint/"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --work")
    parser.add_argument("--begin", type=Path, help="a checkpoint directory whose weights to begin with")
    return parser.parse_args()


def main() -> None:
    """Train, and leave the checkpoint in ``--work``/checkpoint."""
    args = parse()
    torch.set_num_threads(args.threads)
    # A resumed run keeps its own tokenizer: its ids would change with every word added to the facts.
    kept = args.work / "checkpoint" / "tokenizer.json"
    if args.resume:
        tokenizer = Tokenizer.from_file(str(kept))
        run = Run(**torch.load(args.work / "run.pt"))
        print(f"resuming at step {run.step}, {run.elapsed_s:.0f}s")
    elif args.begin:
        run, tokenizer = begun(args.begin)
    else:
        tokenizer = build()
        weights = initial(Geometry(_padded(tokenizer)), args.seed)
        run = Run(weights, {name: torch.zeros_like(weight) for name, weight in weights.items()})
    geometry = Geometry(_padded(tokenizer))
    for weight in run.weights.values():
        weight.requires_grad_(True)
    print(
        f"{sum(weight.numel() for weight in run.weights.values())} parameters,",
        f"vocabulary {geometry.vocabulary}",
    )
    train(run, geometry, tokenizer, args)


if __name__ == "__main__":
    main()
