"""What is read from the graphs: any ladder and chunk, dummies, suffixes, several decode groups or one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardware.card import ShapeGroup, TensorSpec
from models.llm.geometry import DecodeGroup, PrefillGroup, combine, read_layer, read_post
from models.manifest import PackageProblem

HIDDEN, WIDTH = 1536, 256


def group(
    index: int, tokens: int, history: int, *, suffix: bool = False, index_rows: int = 1, dummy: int = HIDDEN
) -> ShapeGroup:
    """A layer's group as the packages have it; ``dummy`` is the width of K/V without history."""
    end = f"_{index}" if suffix else ""
    cache = (1, history, WIDTH) if history else (1, 1, dummy)
    return ShapeGroup(
        index,
        (
            TensorSpec(f"K_cache{end}", "bf16", cache),
            TensorSpec(f"V_cache{end}", "bf16", cache),
            TensorSpec(f"indices{end}", "u32", (index_rows, tokens)),
            TensorSpec(f"input{end}", "bf16", (1, tokens, HIDDEN)),
            TensorSpec(f"mask{end}", "bf16", (1, tokens, history + tokens)),
        ),
        (
            TensorSpec(f"K_cache_out{end}", "bf16", (1, tokens, WIDTH)),
            TensorSpec(f"V_cache_out{end}", "bf16", (1, tokens, WIDTH)),
            TensorSpec(f"output{end}", "bf16", (1, tokens, HIDDEN)),
        ),
    )


POST = ShapeGroup(
    0,
    (TensorSpec("input", "bf16", (1, 1, HIDDEN)),),
    (TensorSpec("output", "bf16", (1, 1, 151_936)),),
)


@pytest.mark.parametrize(
    "histories", [(0, 128, 256, 384), (0, 512, 1024, 1536, 2048), (0, 256, 512, 1024, 1536, 2048), (128, 0)]
)
@pytest.mark.parametrize("chunk", [32, 128, 256])
@pytest.mark.parametrize("suffix", [False, True])
def test_any_ladder_and_chunk_is_read_smallest_history_first(
    histories: tuple[int, ...], chunk: int, suffix: bool
) -> None:
    groups = [group(0, 1, 2559)]
    groups += [group(at, chunk, history, suffix=suffix) for at, history in enumerate(histories, 1)]
    layer = read_layer(groups)
    assert layer.decode == (DecodeGroup(2559, 0),)
    assert [each.history for each in layer.prefill] == sorted(histories)
    assert {each.chunk for each in layer.prefill} == {chunk}
    assert all(histories[each.index - 1] == each.history for each in layer.prefill)
    assert (layer.hidden, layer.kv_width, layer.row_bytes) == (HIDDEN, WIDTH, 2 * WIDTH)


@pytest.mark.parametrize("dummy", [HIDDEN, WIDTH, 1])
def test_the_dummy_of_a_group_without_history_may_have_any_width(dummy: int) -> None:
    layer = read_layer([group(0, 1, 255), group(1, 128, 0, dummy=dummy)])
    assert layer.prefill == (PrefillGroup(0, 128, 1),)


def test_a_package_without_prefill_groups_can_still_decode() -> None:
    assert read_layer([group(0, 1, 1023)]).prefill == ()


def test_several_decode_groups_stand_sorted_and_the_largest_is_the_context() -> None:
    layer = read_layer([group(0, 1, 8191), group(1, 1, 2047), group(2, 128, 0)])
    assert layer.decode == (DecodeGroup(2047, 1), DecodeGroup(8191, 0))
    assert combine([layer], read_post([POST])).context == 8191


def test_three_rows_of_positions_are_a_model_of_mrope() -> None:
    assert read_layer([group(0, 1, 255, index_rows=3), group(1, 64, 0, index_rows=3)]).index_rows == 3


def test_layers_of_an_unknown_kind_are_refused_by_name() -> None:
    plain = group(0, 1, 255)
    extra = replace(plain, inputs=(*plain.inputs, TensorSpec("per_layer_input", "bf16", (1, 1, 256))))
    with pytest.raises(PackageProblem, match="per_layer_input"):
        read_layer([extra])


def test_tensors_of_unexpected_size_are_refused() -> None:
    plain = group(0, 1, 255)
    gates = replace(plain, inputs=(TensorSpec("K_cache", "bf16", (1, 4, 512)), *plain.inputs[1:]))
    with pytest.raises(PackageProblem, match="K_cache of group 0"):
        read_layer([gates])


def test_only_prefill_groups_cannot_generate() -> None:
    with pytest.raises(PackageProblem, match="single tokens"):
        read_layer([group(0, 128, 0)])


def test_layers_of_two_builds_are_told_apart() -> None:
    short, long = read_layer([group(0, 1, 255)]), read_layer([group(0, 1, 511)])
    with pytest.raises(PackageProblem, match="layer 1 has other shape groups"):
        combine([short, long], read_post([POST]))


def test_a_last_graph_of_another_model_is_told() -> None:
    other = replace(POST, inputs=(TensorSpec("input", "bf16", (1, 1, 64)),))
    with pytest.raises(PackageProblem, match="two models"):
        combine([read_layer([group(0, 1, 255)])], read_post([other]))


def test_logits_are_found_beside_an_argmax() -> None:
    both = replace(POST, outputs=(TensorSpec("indices", "i32", (1, 1)), *POST.outputs))
    assert read_post([both]).output.name == "output"
    assert read_post([both]).vocab == 151_936


def test_a_last_graph_that_gives_no_logits_is_refused() -> None:
    picked = replace(POST, outputs=(TensorSpec("indices", "i32", (1, 1)),))
    with pytest.raises(PackageProblem, match="no logits"):
        read_post([picked])
