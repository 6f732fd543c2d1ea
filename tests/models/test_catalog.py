"""Directories as people have them, and what the catalog says of each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from config.settings import Settings, read_settings
from models.catalog import describe, longest_token_bytes, scan
from models.diffusion import identity
from models.diffusion.package import find_package as find_pictures
from tasks.board import Model
from tasks.naming import slug
from tests.golden.llm import QWEN3, WIDE
from tests.models.diffusion.tiny import write_tiny

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456789\n"
COMPILED = b"\x08\x08\x12\x04axcc" + bytes(4096)
"""How a graph for the NPU begins; nothing of it can be read without one."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def put(packages: Mapping[str, Path], place: Path) -> Callable[..., Path]:
    """``put("name")``: a copy of a good package, to be left alone or damaged."""

    def copied(name: str, source: str = "qwen3") -> Path:
        return Path(shutil.copytree(packages[source], place / name))

    return copied


def settings(place: Path, *, demo: bool = False) -> Settings:
    return read_settings(models_dir=place, demo_models=demo)


def problem(directory: Path) -> str:
    found = describe(directory)
    assert found.problem is not None
    return found.problem


def test_a_flat_package_is_described_from_its_files(put: Callable[..., Path], place: Path) -> None:
    directory = put("Qwen3 Tiny (test)")
    (model,) = scan(settings(place)).models
    assert model.id == "qwen3-tiny-test"
    assert model.problem is None
    assert (model.kind, model.family, model.is_demo) == ("chat", "qwen3", False)
    assert model.context == QWEN3.kv_length
    assert model.directory == str(directory)
    assert model.size_bytes == sum(
        path.stat().st_size for path in directory.iterdir() if path.suffix in (".axmodel", ".bin")
    )


def test_an_older_package_with_its_layers_one_level_down_is_the_same_model(
    put: Callable[..., Path], place: Path
) -> None:
    directory = put("old")
    inner = directory / "qwen3-tiny-ax650"
    inner.mkdir()
    for path in [*directory.glob("*.axmodel"), *directory.glob("*.bin")]:
        path.rename(inner / path.name)
    (directory / "config.json").write_bytes(b"")
    assert describe(directory).problem is None
    assert describe(directory).context == QWEN3.kv_length


def test_the_plain_names_of_the_oldest_packages_are_known(put: Callable[..., Path]) -> None:
    directory = put("oldest")
    for path in directory.glob("*_together.axmodel"):
        index = path.name.split("_l")[1].split("_")[0]
        path.rename(directory / f"qwen_l{index}.axmodel")
    next(directory.glob("*_post.axmodel")).rename(directory / "qwen_post.axmodel")
    (directory / "config.json").unlink()
    assert describe(directory).problem is None


def test_a_stray_copy_for_viewers_changes_nothing_and_can_stand_in(put: Callable[..., Path]) -> None:
    directory = put("stray")
    post = next(directory.glob("*_post.axmodel"))
    shutil.copyfile(post, directory / (post.name + ".onnx"))
    assert describe(directory).problem is None
    post.unlink()
    assert describe(directory).problem is None


def test_a_missing_layer_is_named(put: Callable[..., Path]) -> None:
    directory = put("gap", "wide")
    next(directory.glob("*_l1_together.axmodel")).unlink()
    assert problem(directory) == "1 of 4 layer files are missing (layer 1): download them again"


def test_missing_last_layers_are_noticed_by_the_config(put: Callable[..., Path]) -> None:
    directory = put("short", "wide")
    next(directory.glob("*_l3_together.axmodel")).unlink()
    assert "layer 3" in problem(directory)


def test_missing_last_layers_are_noticed_by_the_run_script(put: Callable[..., Path]) -> None:
    directory = put("script", "wide")
    next(directory.glob("*_l3_together.axmodel")).unlink()
    (directory / "config.json").write_bytes(b"")
    (directory / "run_qwen3_ax650.sh").write_text(
        "./main_ax650 --axmodel_num 4 \\\n --bos 0\n", encoding="utf-8"
    )
    assert "layer 3" in problem(directory)


def test_a_pointer_instead_of_a_file_is_told_with_the_cure(put: Callable[..., Path]) -> None:
    directory = put("lfs")
    name = next(directory.glob("*_l0_together.axmodel"))
    name.write_bytes(LFS)
    assert f"{name.name} is a Git LFS pointer of {len(LFS)} bytes" in problem(directory)
    assert "git lfs pull" in problem(directory)


def test_a_pointer_for_the_tokenizer_is_told_too(put: Callable[..., Path]) -> None:
    directory = put("lfs-tokenizer")
    (directory / "qwen3_tokenizer" / "tokenizer.json").write_bytes(LFS)
    assert "tokenizer.json is a Git LFS pointer" in problem(directory)


def test_an_empty_graph_is_told(put: Callable[..., Path]) -> None:
    directory = put("empty-file")
    name = next(directory.glob("*_post.axmodel"))
    name.write_bytes(b"")
    assert problem(directory) == f"{name.name} is empty: download it again"


@pytest.mark.parametrize("size_bytes", [QWEN3.hidden * 2 * 10, QWEN3.hidden * 2 * QWEN3.vocab - 1])
def test_an_embedding_table_of_the_wrong_size_is_told(put: Callable[..., Path], size_bytes: int) -> None:
    directory = put("embedding")
    (directory / "model.embed_tokens.weight.bfloat16.bin").write_bytes(b"\0" * size_bytes)
    assert "cut short or belongs to another model" in problem(directory)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("*_post.axmodel", "the last graph qwen3_post.axmodel is missing"),
        ("*.bin", "the embedding table model.embed_tokens.weight.bfloat16.bin is missing"),
        ("*/tokenizer.json", "there is no tokenizer.json in it"),
    ],
)
def test_every_missing_role_is_named(put: Callable[..., Path], pattern: str, words: str) -> None:
    directory = put("missing")
    next(directory.glob(pattern)).unlink()
    assert words in problem(directory)


def test_files_of_two_builds_are_told_apart(put: Callable[..., Path], packages: Mapping[str, Path]) -> None:
    directory = put("mixed")
    other = next(packages["wide"].glob("*_l1_together.axmodel"))
    shutil.copyfile(other, next(directory.glob("*_l1_together.axmodel")))
    assert "layer 1 is 64 wide, the last graph 96" in problem(directory)


def test_two_models_in_one_directory_are_told(put: Callable[..., Path], packages: Mapping[str, Path]) -> None:
    directory = put("two")
    shutil.copytree(packages["wide"], directory / "other")
    assert "it holds 2 models" in problem(directory)


def test_of_the_directories_for_several_chips_ours_is_taken(put: Callable[..., Path]) -> None:
    directory = put("chips")
    for chip in ("ax630c", "ax650"):
        inner = directory / f"qwen3-{chip}"
        inner.mkdir()
        for path in [*directory.glob("*.axmodel"), *directory.glob("*.bin")]:
            shutil.copyfile(path, inner / path.name)
    for path in directory.glob("*.axmodel"):
        path.unlink()
    assert describe(directory).problem is None


def test_graphs_for_a_real_card_are_told_on_the_virtual_one(put: Callable[..., Path]) -> None:
    directory = put("Qwen3-4B-AX650-C128-P1152-CTX2047")
    for path in directory.glob("*.axmodel"):
        path.write_bytes(COMPILED)
    told = problem(directory)
    assert "context 2047" in told
    assert "compiled for AX650" in told
    assert "demo.export_llm" in told


def test_graphs_for_a_real_card_can_be_used_where_there_is_one(put: Callable[..., Path], place: Path) -> None:
    directory = put("Qwen3-4B-AX650-C128-P1152-CTX2047")
    for path in directory.glob("*.axmodel"):
        path.write_bytes(COMPILED)
    real = settings(place).model_copy(update={"card": "axcl"})
    (model,) = scan(real).models
    assert model.problem is None
    assert (model.kind, model.context, model.needs_basis) == ("chat", 2047, "estimated")
    needs = [model.needs_bytes or 0]
    tokenizer = next(directory.rglob("tokenizer.json")).parent
    (tokenizer / "config.json").write_text('{"num_key_value_heads": 3, "head_dim": 32}', encoding="utf-8")
    needs.append(scan(real).models[0].needs_bytes or 0)
    for width, need_bytes in zip((1024, 96), needs, strict=True):
        rows_bytes = 2 * QWEN3.layers * 2047 * width * 2
        assert rows_bytes < need_bytes < rows_bytes + (17 << 20)
    embedding = next(directory.rglob("*.bfloat16.bin"))
    embedding.write_bytes(embedding.read_bytes()[:-3])
    assert "cut short" in (scan(real).models[0].problem or "")
    (directory / "qwen3_p8_l1_together.axmodel").unlink()
    assert "missing" in (scan(real).models[0].problem or "")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "empty"),
        (["model.safetensors", "config.json"], "python -m demo.export_llm"),
        (["qwen3-0.6b-q4_k_m.gguf"], "GGUF"),
        (["unet.axmodel", "vae_decoder.axmodel"], "the text encoder"),
        (["unet.onnx", "config.json"], "its UNet is not compiled for this card"),
        (["notes.txt"], "no model files were found"),
    ],
)
def test_directories_without_layers_say_what_they_are(place: Path, names: list[str], words: str) -> None:
    directory = place / "something"
    directory.mkdir()
    for name in names:
        (directory / name).write_bytes(b"x")
    assert words in problem(directory)


def test_hidden_directories_and_files_are_no_models(place: Path) -> None:
    (place / ".cache").mkdir()
    (place / "readme.txt").write_text("hello", encoding="utf-8")
    assert scan(settings(place)).models == ()


def test_a_models_directory_that_is_not_there_is_an_empty_catalog(tmp_path: Path) -> None:
    assert scan(settings(tmp_path / "nowhere")).models == ()


def test_the_manifest_names_the_model_and_its_sampling(put: Callable[..., Path], place: Path) -> None:
    directory = put("Some_Dir")
    (directory / "hearth.toml").write_text(
        'alias = "Tiny"\naliases = ["small one"]\nis_demo = true\nkeep_resident = true\n'
        "[sampling]\ntemperature = 0.3\ntop_k = 20\n",
        encoding="utf-8",
    )
    catalog = scan(settings(place))
    model = catalog.find("tiny")
    assert model is not None
    assert model.aliases == ("some_dir", "small-one")
    assert model.is_demo
    assert model.keep_resident
    assert model.sampling == {"temperature": 0.3, "top_k": 20}
    assert catalog.find("SOME_DIR") == catalog.find("small-one") == model


def test_the_makers_sampling_holds_where_the_manifest_is_silent(put: Callable[..., Path]) -> None:
    directory = put("maker")
    suggested = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    (directory / "generation_config.json").write_text(json.dumps(suggested), encoding="utf-8")
    (directory / "hearth.toml").write_text("[sampling]\ntemperature = 0.1\n", encoding="utf-8")
    assert describe(directory).sampling == {"temperature": 0.1, "top_k": 20, "top_p": 0.95}


def test_the_vendors_switches_say_which_of_its_values_hold(put: Callable[..., Path]) -> None:
    directory = put("maker")
    switched = {
        "enable_temperature": True,
        "temperature": 0.9,
        "enable_repetition_penalty": True,
        "repetition_penalty": 1.2,
        "penalty_window": 20,
        "enable_top_p_sampling": False,
        "top_p": 0.8,
        "enable_top_k_sampling": True,
        "top_k": "many",
    }
    (directory / "generation_config.json").unlink(missing_ok=True)
    (directory / "post_config.json").write_text(json.dumps(switched), encoding="utf-8")
    assert describe(directory).sampling == {
        "temperature": 0.9,
        "repetition_penalty": 1.2,
        "repetition_window": 20,
    }


def test_the_template_tells_what_a_package_knows(put: Callable[..., Path]) -> None:
    directory = put("maker")
    plain = describe(directory)
    assert (plain.knows_tools, plain.knows_thinking) == (False, False)
    (config,) = directory.rglob("tokenizer_config.json")
    template = config.with_name("chat_template.jinja")
    template.write_text("{{ tools }}<tool_call> <think>", encoding="utf-8")
    able = describe(directory)
    assert (able.knows_tools, able.knows_thinking) == (True, True)
    template.unlink()
    templates = [{"name": "tool_use", "template": "tools <tool_call>"}]
    config.write_text(json.dumps({"chat_template": templates}), encoding="utf-8")
    assert describe(directory).knows_tools


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alias = 3", "alias must be a string"),
        ("aliases = 'x'", "aliases must be a list"),
        ("nickname = 'x'", "unknown key 'nickname'"),
        ("alias = ", "not valid TOML"),
        ("[sampling]\ntemperature = 9.0", "sampling.temperature must be a number from 0 to 2"),
        ("[sampling]\ntop_k = 1.5", "sampling.top_k must be a"),
        ("[sampling]\nmagic = 1", "sampling.magic is unknown"),
    ],
)
def test_a_wrong_manifest_is_told_by_its_key(put: Callable[..., Path], text: str, words: str) -> None:
    directory = put("manifest")
    (directory / "hearth.toml").write_text(text, encoding="utf-8")
    assert words in problem(directory)


def test_a_second_package_of_one_name_is_listed_and_told(put: Callable[..., Path], place: Path) -> None:
    first, second = put("a"), put("b")
    for directory in (first, second):
        (directory / "hearth.toml").write_text('alias = "same"', encoding="utf-8")
    models = scan(settings(place)).models
    assert [(model.id, model.problem is None) for model in models] == [("same", True), ("same-2", False)]
    assert models[1].problem == f"{first} is called 'same' too: give one of them an alias in its hearth.toml"


def test_the_demo_packages_are_offered_when_wanted(place: Path) -> None:
    assert scan(settings(place)).models == ()
    demos = {model.id: model for model in scan(settings(place, demo=True)).models if model.is_demo}
    assert {id_: model.problem for id_, model in demos.items()} == {"hearth-chat": None, "hearth-image": None}
    assert demos["hearth-chat"].context == 511
    pictures = demos["hearth-image"].pictures
    assert pictures is not None
    assert (pictures.sizes[0].width_px, pictures.sizes[0].height_px) == (128, 128)


def test_catalogs_travel_as_facts(put: Callable[..., Path], place: Path) -> None:
    from tasks import board

    put("one")
    catalog = scan(settings(place))
    assert board.decode(board.Catalog, board.encode(catalog)) == catalog


def test_scanning_imports_no_heavy_library() -> None:
    code = (
        "import sys, models.catalog; "
        "heavy = ('transformers', 'onnxruntime', 'tokenizers', 'jinja2'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_become_slugs() -> None:
    assert slug("Qwen2.5-1.5B Instruct_(Int8)") == "qwen2.5-1.5b-instruct_-int8"
    assert slug("..") == "model"


class TestLongestToken:
    """An upper bound of the bytes that one token can stand for."""

    def write(self, place: Path, **changes: object) -> Path:
        data: dict[str, object] = {
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
            "model": {"type": "BPE", "vocab": {"a": 0, "Ġhello": 1, "æ¼¢": 2}},
            "added_tokens": [],
        }
        path = place / "tokenizer.json"
        path.write_text(json.dumps({**data, **changes}), encoding="utf-8")
        return path

    def test_byte_level_tokens_have_a_byte_per_character(self, place: Path) -> None:
        assert longest_token_bytes(self.write(place)) == 6

    def test_special_tokens_count_too(self, place: Path) -> None:
        assert longest_token_bytes(self.write(place, added_tokens=[{"content": "<|endoftext|>"}])) == 13

    def test_composing_characters_may_shrink_text_to_a_third(self, place: Path) -> None:
        assert longest_token_bytes(self.write(place, normalizer={"type": "NFC"})) == 18

    def test_sentencepiece_marks_a_space_and_falls_back_to_bytes(self, place: Path) -> None:
        model = {"type": "BPE", "byte_fallback": True, "vocab": {"▁the": 0, "漢": 1}}
        changed = self.write(
            place, pre_tokenizer=None, model=model, normalizer={"type": "Prepend", "prepend": "▁"}
        )
        assert longest_token_bytes(changed) == 4

    @pytest.mark.parametrize(
        "changes",
        [
            {"pre_tokenizer": None},
            {"normalizer": {"type": "Strip"}},
            {"added_tokens": [{"content": "<mask>", "lstrip": True}]},
        ],
    )
    def test_where_text_may_collapse_nothing_is_promised(
        self, place: Path, changes: dict[str, object]
    ) -> None:
        assert longest_token_bytes(self.write(place, **changes)) is None


def test_the_golden_models_are_usable(packages: Mapping[str, Path]) -> None:
    models: list[Model] = [describe(path) for path in packages.values()]
    assert [model.problem for model in models] == [None] * 3
    assert {model.context for model in models} >= {WIDE.kv_length, QWEN3.kv_length}


def picture_package(place: Path) -> Path:
    """Two sizes; four steps at most, because there is no time MLP."""
    root = write_tiny(place / "Pictures", mlp=False)
    write_tiny(root / "models_128x64", 128, 64, text=False, encoder=False, mlp=False)
    return root


def test_a_picture_package_tells_its_sizes_and_steps(place: Path) -> None:
    root = picture_package(place)
    (model,) = scan(settings(place)).models
    assert (model.id, model.kind, model.problem, model.family) == ("pictures", "image", None, "sd15-lcm")
    pictures = model.pictures
    assert pictures is not None
    assert [str(size) for size in pictures.sizes] == ["80x64", "64x128"]
    assert (pictures.steps, pictures.default_steps) == ((1, 2, 4), 4)
    assert pictures.from_pictures
    assert pictures.sha256 == find_pictures(root).variants[0].sha256()
    assert model.size_bytes == sum(path.stat().st_size for path in root.rglob("*.axmodel"))


def test_pictures_for_a_real_card_are_what_their_directories_are_named_for(place: Path) -> None:
    root = picture_package(place)
    for path in root.rglob("*.axmodel"):
        path.write_bytes(COMPILED)
    assert "compiled for a real one" in problem(root)
    model = describe(root, for_real=True)
    assert model.problem is None
    assert model.pictures is not None
    assert [str(size) for size in model.pictures.sizes] == ["512x512", "64x128"]
    assert model.pictures.steps == (1, 2, 4)
    assert model.pictures.from_pictures
    assert model.needs_basis == "estimated"


def test_the_manifest_chooses_what_pictures_are_by_default(place: Path) -> None:
    root = picture_package(place)
    (root / "hearth.toml").write_text(
        'alias = "sd"\n[pictures]\ndefault_size = "64x128"\ndefault_steps = 2\n', encoding="utf-8"
    )
    model = describe(root)
    assert model.id == "sd"
    assert model.pictures is not None
    assert [str(size) for size in model.pictures.sizes] == ["64x128", "80x64"]
    assert model.pictures.default_steps == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[pictures]\ndefault_size = "512x512"', "is 512x512, and it draws 80x64, 64x128"),
        ("[pictures]\ndefault_size = 512", "WIDTHxHEIGHT"),
        ("[pictures]\ndefault_steps = 3", "those of 1, 2, 4 steps"),
        ("[pictures]\ndefault_steps = true", "a number from 1"),
        ("[pictures]\nsize = 1", "pictures.size is unknown"),
        ("pictures = 1", "pictures must be a table"),
    ],
)
def test_a_manifest_that_asks_for_what_there_is_not_says_so(place: Path, text: str, words: str) -> None:
    root = picture_package(place)
    (root / "hearth.toml").write_text(text, encoding="utf-8")
    assert words in problem(root)


def test_a_size_that_cannot_be_used_does_not_take_the_others_with_it(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = picture_package(place)
    (root / "models_128x64" / "unet.axmodel").write_bytes(LFS)
    model = describe(root)
    assert model.problem is None
    assert model.pictures is not None
    assert [str(size) for size in model.pictures.sizes] == ["80x64"]
    assert "git lfs pull" in caplog.text
    (root / "unet.axmodel").write_bytes(LFS)
    assert "git lfs pull" in problem(root)
    assert describe(root).kind == "image"


def test_the_hash_of_a_large_model_is_read_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "READ_AT_ONCE_BYTES", 10)
    root, data = picture_package(place), tmp_path / "data"
    pictures = describe(root, data).pictures
    assert pictures is not None
    assert pictures.sha256 is None
    variant = find_pictures(root).variants[0]
    assert identity.read(variant, data) == variant.sha256()
    monkeypatch.setattr(type(variant), "sha256", lambda self: pytest.fail("read twice"))
    again = describe(root, data).pictures
    assert again is not None
    assert again.sha256 == identity.read(variant, data)
