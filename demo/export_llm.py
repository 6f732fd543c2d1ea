"""Export a Hugging Face Qwen2, Qwen2.5 or Qwen3 checkpoint as a package for the virtual card.

    python -m demo.export_llm CHECKPOINT OUT_DIR --kv-length 511 --chunk 128 --history 128 256 384

The package has AXERA's layout: one graph per layer, the last graph, the embedding table, the tokenizer and
the configuration of the vendor's runner. A group without history always comes first; ``--history`` names the
others, and unless it is given there is one for every chunk that fits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from demo.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from demo.llm_graphs import Compute, layer_groups, layer_model, post_model

EMBEDDING = "model.embed_tokens.weight.bfloat16.bin"
_F64_UP_TO = 20_000_000
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)


def export(
    checkpoint: Checkpoint,
    out: Path,
    *,
    kv_length: int,
    chunk: int,
    histories: Sequence[int],
    compute: Compute | None = None,
    prefix: str | None = None,
) -> None:
    """Write the package into ``out``; graphs of a former export there are removed first.

    Without ``compute`` it is ``usual_compute``.

    Raises:
        CheckpointError: the checkpoint, or what is asked of it, cannot be exported.
    """
    histories = sorted({0, *histories})
    _refuse_impossible(kv_length, chunk, histories)
    name = prefix or checkpoint.architecture.family
    out.mkdir(parents=True, exist_ok=True)
    # Files of a former export go first: a server that runs on them keeps them, and does not see them change.
    for stale in (*out.glob("*.axmodel"), out / EMBEDDING):
        stale.unlink(missing_ok=True)
    compute = compute or usual_compute(checkpoint)
    groups = layer_groups(checkpoint.architecture, kv_length, chunk, histories)
    for layer in range(checkpoint.architecture.layers):
        model = layer_model(checkpoint, layer, groups, compute)
        onnx.save(model, out / f"{name}_p{chunk}_l{layer}_together.axmodel")
    onnx.save(post_model(checkpoint), out / f"{name}_post.axmodel")
    (out / EMBEDDING).write_bytes(checkpoint.matrix("model.embed_tokens.weight").tobytes())
    tokenizer = out / f"{name}_tokenizer"
    _copy_tokenizer(checkpoint.directory, tokenizer)
    _write_json(out / "config.json", _runner_config(checkpoint, name, chunk, tokenizer.name))
    _write_json(out / "post_config.json", _post_config(checkpoint.directory))
    generation = checkpoint.directory / "generation_config.json"
    if generation.is_file():
        shutil.copyfile(generation, out / generation.name)


def usual_compute(checkpoint: Checkpoint) -> Compute:
    """float64 up to 20 million weights, where it costs little; float32 above, where memory counts."""
    weights = sum(tensor.size for tensor in checkpoint.weights.values())
    return Compute.F64 if weights <= _F64_UP_TO else Compute.F32


def _refuse_impossible(kv_length: int, chunk: int, histories: Sequence[int]) -> None:
    if chunk < 2:
        raise CheckpointError("a chunk has at least 2 tokens: a group of one token is the decode group")
    if histories[0] < 0 or histories[-1] > kv_length:
        raise CheckpointError(f"histories must lie between 0 and the kv length {kv_length}")


def _copy_tokenizer(source: Path, target: Path) -> None:
    if not (source / "tokenizer.json").is_file():
        raise CheckpointError(f"{source} has no tokenizer.json")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _runner_config(checkpoint: Checkpoint, name: str, chunk: int, tokenizer: str) -> dict[str, Any]:
    """config.json as the vendor's runner reads it. Source: AXERA-TECH/ax-llm docs/configuration.md."""
    a = checkpoint.architecture
    eos = checkpoint.config.get("eos_token_id")
    return {
        "model_name": name,
        "tokenizer_type": {"qwen2": "Qwen2_5", "qwen3": "Qwen3"}[a.family],
        "url_tokenizer_model": tokenizer,
        "template_filename_axmodel": f"{name}_p{chunk}_l%d_together.axmodel",
        "axmodel_num": a.layers,
        "filename_post_axmodel": f"{name}_post.axmodel",
        "filename_tokens_embed": EMBEDDING,
        "tokens_embed_num": a.vocab,
        "tokens_embed_size": a.hidden,
        "use_mmap_load_embed": True,
        "post_config_path": "post_config.json",
        "eos": eos,
        "devices": [0],
    }


def _post_config(source: Path) -> dict[str, Any]:
    """post_config.json. The vendor's runner takes top-p or top-k; where both are suggested, top-p wins."""
    path = source / "generation_config.json"
    suggested = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    samples = bool(suggested.get("do_sample", False))
    return {
        "enable_temperature": samples,
        "temperature": suggested.get("temperature", 0.7),
        "enable_repetition_penalty": False,
        "repetition_penalty": 1.0,
        "penalty_window": 20,
        "enable_top_p_sampling": samples and "top_p" in suggested,
        "top_p": suggested.get("top_p", 0.8),
        "enable_top_k_sampling": samples and "top_p" not in suggested,
        "top_k": suggested.get("top_k", 1),
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def every_chunk(options: argparse.Namespace) -> Sequence[int]:
    """Histories such that any prompt that fits goes through by whole chunks."""
    return range(0, options.kv_length, max(options.chunk, 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.export_llm", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("checkpoint", type=Path, help="directory with config.json, safetensors and tokenizer")
    parser.add_argument("out_dir", type=Path, help="directory of the package; made when it is not there")
    parser.add_argument(
        "--kv-length", type=int, default=511, help="rows of the cache: the context (%(default)s)"
    )
    parser.add_argument("--chunk", type=int, default=32, help="tokens of one prefill step (%(default)s)")
    parser.add_argument(
        "--history",
        type=int,
        nargs="*",
        help="rows of history of the prefill groups (every multiple of the chunk)",
    )
    parser.add_argument(
        "--compute",
        type=Compute,
        choices=list(Compute),
        help="precision inside the graphs: f64 makes answers independent of how a prompt is cut, f32 is "
        "smaller and faster (default: f64 up to 20 million weights)",
    )
    parser.add_argument("--prefix", help="what file names begin with (default: the model's family)")
    options = parser.parse_args(arguments)
    try:
        export(
            read_checkpoint(options.checkpoint),
            options.out_dir,
            kv_length=options.kv_length,
            chunk=options.chunk,
            histories=options.history if options.history is not None else every_chunk(options),
            compute=options.compute,
            prefix=options.prefix,
        )
    except CheckpointError as error:
        print(f"export_llm: {error}", file=sys.stderr)
        return 1
    size_mb = sum(path.stat().st_size for path in options.out_dir.rglob("*") if path.is_file()) / 1e6
    print(f"{options.out_dir}: {size_mb:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
