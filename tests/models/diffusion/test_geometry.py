from __future__ import annotations

from dataclasses import replace

import pytest

from hardware.card import ShapeGroup, TensorSpec
from models.diffusion.geometry import (
    Geometry,
    Size,
    combine,
    read_decoder,
    read_encoder,
    read_text,
    read_unet,
)
from models.manifest import PackageProblem
from tests.golden.diffusion import MLP_WIDTH
from tests.models.diffusion.files import TIME_NAME, group, shape_groups


def geometry(groups: dict[str, ShapeGroup]) -> Geometry:
    encoder = groups.get("encoder")
    return combine(
        read_text([groups["text"]]),
        read_unet([groups["unet"]]),
        read_decoder([groups["decoder"]]),
        read_encoder([encoder]) if encoder else None,
    )


def test_names_and_shapes_are_those_of_the_graphs() -> None:
    read = geometry(shape_groups(1024, 768))
    assert read.size == Size(height=1024, width=768)
    assert str(read.size) == "768x1024"
    assert read.latent_shape == (1, 4, 128, 96)
    assert read.time_width == MLP_WIDTH
    assert read.tokens == 77
    assert read.unet.time.name == TIME_NAME
    assert read.unet.sample.name == "sample"
    assert read.unet.text.name == "encoder_hidden_states"
    assert read.unet.epsilon.name == "2976"
    assert read.text.hidden.name == "last_hidden_state"
    assert read.decoder.latent.name == "x"
    assert read.encoder is not None
    assert read.encoder.image.name == "image_sample"


def test_other_names_and_orders_make_no_difference() -> None:
    groups = shape_groups()
    unet, decoder = groups["unet"], groups["decoder"]
    shuffled = tuple(replace(spec, name=f"t{i}") for i, spec in enumerate(reversed(unet.inputs)))
    groups["unet"] = replace(unet, inputs=shuffled)
    groups["decoder"] = replace(decoder, inputs=(replace(decoder.inputs[0], name="latent"),))
    read = geometry(groups)
    assert read.unet.sample.name == "t2"
    assert read.decoder.latent.name == "latent"


def test_a_small_model_of_another_kind_of_latent_is_read_alike() -> None:
    text = (1, 32, 128)
    latent = (1, 8, 12, 12)
    groups = {
        "text": group([("ids", "i64", (1, 32))], [("pooled", "f32", (1, 128)), ("rows", "f32", text)]),
        "unet": group(
            [("a", "f32", latent), ("b", "f32", (1, 194)), ("c", "f32", text)], [("e", "f32", latent)]
        ),
        "decoder": group([("z", "f32", latent)], [("y", "f32", (1, 3, 96, 96))]),
    }
    read = geometry(groups)
    assert read.encoder is None
    assert read.text.hidden.name == "rows"
    assert (read.size, read.latent_shape, read.tokens) == (Size(96, 96), latent, 32)


@pytest.mark.parametrize(
    ("role", "change", "told"),
    [
        ("text", group([("ids", "f32", (1, 77))], [("h", "f32", (1, 77, 768))]), "text encoder.*token ids"),
        ("text", group([("ids", "i32", (1, 77))], [("h", "f32", (1, 768))]), "one vector for each token"),
        (
            "unet",
            group(
                [("s", "f32", (1, 4, 64, 64)), ("timestep", "i64", (1,)), ("t", "f32", (1, 77, 768))],
                [("e", "f32", (1, 4, 64, 64))],
            ),
            "a row of time inputs",
        ),
        (
            "unet",
            group(
                [("s", "f32", (2, 4, 64, 64)), ("d", "f32", (1, 48)), ("t", "f32", (1, 77, 768))],
                [("e", "f32", (2, 4, 64, 64))],
            ),
            "one at a time",
        ),
        (
            "unet",
            group(
                [("s", "bf16", (1, 4, 64, 64)), ("d", "f32", (1, 48)), ("t", "f32", (1, 77, 768))],
                [("e", "f32", (1, 4, 64, 64))],
            ),
            "s is bf16",
        ),
        (
            "unet",
            group(
                [("s", "f32", (1, 4, 64, 64)), ("d", "f32", (1, 48)), ("t", "f32", (1, 77, 1024))],
                [("e", "f32", (1, 4, 64, 64))],
            ),
            "files of two models",
        ),
        (
            "decoder",
            group([("x", "f32", (1, 4, 96, 64))], [("y", "f32", (1, 3, 768, 512))]),
            r"VAE decoder is for latents \[1, 4, 96, 64\].*files of two sizes",
        ),
        (
            "decoder",
            group([("x", "f32", (1, 4, 64, 64))], [("y", "f32", (1, 4, 512, 512))]),
            "an RGB picture",
        ),
        ("decoder", group([("x", "f32", (4,))], [("y", "f32", (1, 3, 512, 512))]), "one array of rank 4"),
        (
            "encoder",
            group([("x", "f32", (1, 3, 512, 512))], [("y", "f32", (1, 16, 64, 64))]),
            r"gives \[1, 16, 64, 64\], which are no moments of the decoder's \[1, 4, 64, 64\]",
        ),
        (
            "encoder",
            group([("x", "f32", (1, 3, 768, 512))], [("y", "f32", (1, 8, 96, 64))]),
            "VAE encoder is for pictures of 512x768, its decoder for 512x512: files of two sizes",
        ),
        (
            "encoder",
            group([("x", "f32", (1, 3, 512, 512))], [("y", "f32", (1, 7, 64, 64))]),
            "mean and logvar",
        ),
    ],
)
def test_graphs_that_do_not_make_a_model_are_named(role: str, change: ShapeGroup, told: str) -> None:
    with pytest.raises(PackageProblem, match=told):
        geometry({**shape_groups(), role: change})


def test_what_was_found_is_told_with_its_shape() -> None:
    odd = replace(shape_groups()["text"], inputs=(TensorSpec("prompt", "u8", (1, 300)),))
    with pytest.raises(PackageProblem, match=r"there is prompt u8\[1, 300\], not one row of token ids"):
        read_text([odd])
