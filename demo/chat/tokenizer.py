"""The tokenizer: whole words of the facts, and bytes for everything else.

Written as a Hugging Face directory: tokenizer.json, tokenizer_config.json, chat_template.jinja.
A piece of text is either a known word, and then one token, or it is spelled byte by byte. The
vocabulary has no merges: a rare word always splits the same way, with or without a space, quote
or capital around it, and that is what makes copying and spelling learnable for a model this small.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from demo.chat.corpus import vocabulary_text
from demo.chat.tools import FREE_VERBS, MEASURES
from demo.chat.words import LISTS, NAMES, WORDS

HERE = Path(__file__).parent
# Qwen3's special tokens in Qwen3's order; only the first three are dropped when text is decoded.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
# A word with the space or slash before it, one digit, one sign with its space, or one blank.
PIECES = r" ?/?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s"
VOCABULARY = 2048
MINIMUM_COUNT = 3


def known_words(limit: int) -> list[str]:
    """The ``limit`` most frequent pieces of the vocabulary text of more than one byte, as byte-level text."""
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PIECES), "isolated"), _byte_level()])
    played = {word.lower() for word in (*WORDS, *NAMES)}
    counts: Counter[str] = Counter()
    marks = re.compile("|".join(MARKS))
    for text in vocabulary_text():
        counts.update(piece for piece, _ in cut.pre_tokenize_str(marks.sub("\n", text)))
    useful = [(word, n) for word, n in counts.items() if len(word) > 1 and n >= MINIMUM_COUNT]
    useful = [(word, n) for word, n in useful if word.lstrip("Ġ").lower() not in played]
    return [word for word, _ in sorted(useful, key=lambda pair: (-pair[1], pair[0]))[:limit]]


def _byte_level() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def build(size: int = VOCABULARY) -> Tokenizer:
    """The tokenizer, with at most ``size`` ids: special tokens first, then bytes, then words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    reserved = len(SPECIAL) + len(MARKS)
    return _of([*SPECIAL, *MARKS, *alphabet, *known_words(size - reserved - len(alphabet))])


def grown(tokenizer: Tokenizer, size: int = VOCABULARY) -> Tokenizer:
    """The tokenizer with the same ids and, behind them, the words it lacks, at most ``size`` ids in all."""
    kept = tokenizer.get_vocab()
    tokens = sorted(kept, key=kept.__getitem__)
    # The names of tools are copied letter by letter: what a wish calls them must stay letters.
    copied = {*MEASURES, *FREE_VERBS, *(word.lower() for row in LISTS.values() for word in row)}
    fresh = [word for word in known_words(2 * size) if word not in kept]
    return _of([*tokens, *[word for word in fresh if word.lstrip("Ġ").lower() not in copied]][:size])


def _of(tokens: Sequence[str]) -> Tokenizer:
    """A tokenizer whose ids are the places in ``tokens``."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # With ignore_merges a piece that is in the vocabulary is one token; all others fall to bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), _byte_level()]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKS])
    return tokenizer


def save(tokenizer: Tokenizer, directory: Path) -> None:
    """Write the directory's three tokenizer files."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    template = (HERE / "chat_template.jinja").read_text(encoding="utf-8")
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(index): {
                "content": token, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": token in SPECIAL,
            }
            for index, token in enumerate((*SPECIAL, *MARKS))
        },
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "chat_template": template,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Build the tokenizer and write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "checkpoint")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    args = parser.parse_args()
    tokenizer = build(args.vocabulary)
    save(tokenizer, args.out)
    print(f"{tokenizer.get_vocab_size()} tokens in {args.out}")


if __name__ == "__main__":
    main()
