"""The table of docs/a1111.md, row by row: honoured, reported, refused."""

from __future__ import annotations

from typing import Any

import pytest

from api.a1111 import policy
from api.a1111.options import Options, settled
from api.a1111.schemas import Img2ImgRequest, Txt2ImgRequest
from api.errors import Refusal
from api.openai.request import validated
from api.pictures.drawing import Drawing
from tasks.board import Pictures, PictureSize
from tasks.jobs import Resize
from tasks.pictures.header import PictureFormat

CAN = Pictures((PictureSize(512, 512), PictureSize(512, 768), PictureSize(768, 512)), (1, 2, 4), 4, True)


def drawn(can: Pictures = CAN, **fields: Any) -> Drawing:
    asked = validated(Txt2ImgRequest, {"cfg_scale": 1, **fields})
    policy.refuse(asked)
    settings, notes = settled(asked.override_settings, Options())
    return policy.drawing(asked, settings, can, None, notes)


def redrawn(**fields: Any) -> Drawing:
    asked = validated(Img2ImgRequest, {"cfg_scale": 1, "mask": "x", **fields})
    policy.refuse(asked)
    return policy.drawing(asked, Options(), CAN, None)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {"size": (512, 512), "steps": None, "seed": None, "guidance_scale": 1}),
        ({"prompt": "a cat", "negative_prompt": "dogs"}, {"prompt": "a cat", "negative_prompt": "dogs"}),
        ({"steps": 2}, {"steps": 2}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 2**32 - 1}, {"seed": 2**32 - 1}),
        ({"seed": None, "styles": None, "scheduler": None}, {"seed": None}),
        ({"cfg_scale": 1.5}, {"guidance_scale": 1.5}),
        ({"width": 768}, {"size": (768, 512)}),
        ({"height": 768}, {"size": (512, 768)}),
        ({"width": 500, "height": 512}, {"size": (500, 512)}),  # image_jobs refuses it, with the sizes
        ({"width": 500}, {"size": (500, 512)}),
        ({"sampler_name": "LCM", "scheduler": "Automatic"}, {}),
        ({"override_settings": {"samples_format": "jpg"}}, {"format": PictureFormat.JPEG, "quality": 80}),
        ({"override_settings": {"live_previews_enable": False}}, {"previews": False}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"}}, {}),
        ({"eta": 1.0, "s_tmax": 9, "do_not_save_grid": True, "save_images": True}, {}),
        ({"enable_hr": False, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_scale": 2}, {}),
        ({"script_name": "None", "script_args": [], "refiner_checkpoint": "None"}, {}),
        ({"alwayson_scripts": {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}}}, {}),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": False}]}, "x": {}, "y": []}}, {}),
        ({"alwayson_scripts": {"FreeU": {"args": {"enabled": False}}}}, {}),
        ({"batch_size": "2", "steps": 4.0, "tiling": 0}, {"steps": 4}),
    ],
)
def test_honoured_without_a_word(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    drawing = drawn(**fields)
    for name, value in wanted.items():
        assert getattr(drawing, name) == value
    assert drawing.warnings == ()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"steps": 20}, "steps is 4 instead of 20: this model draws in 1, 2 or 4"),
        ({"steps": 3}, "steps is 4 instead of 3"),
        ({"cfg_scale": 7}, "cfg_scale is 1 instead of 7"),
        ({"cfg_scale": 0.5}, "cfg_scale is 1 instead of 0.5"),
        ({"sampler_name": "Euler a"}, "sampler_name is LCM instead of Euler a"),
        ({"sampler_index": "DDIM"}, "sampler_name is LCM instead of DDIM"),
        ({"scheduler": "karras"}, "scheduler is Automatic instead of karras"),
        ({"eta": 0.5}, "eta has no effect"),
        ({"s_churn": 1}, "s_churn has no effect"),
        ({"s_noise": 0.9}, "s_noise has no effect"),
        ({"do_not_save_samples": True}, "do_not_save_samples has no effect"),
        ({"prompt": "a (red:1.3) cat"}, "words have no weights"),
        ({"override_settings": {"eta_noise_seed_delta": 3}}, "'eta_noise_seed_delta' has no effect"),
        (
            {"override_settings": {"jpeg_quality": 9}, "override_settings_restore_afterwards": False},
            "for this request only",
        ),
    ],
)
def test_reported(fields: dict[str, Any], word: str) -> None:
    (warning,) = drawn(**fields).warnings
    assert word in warning


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"mask_blur": 4, "inpainting_fill": 1, "inpaint_full_res": False}, "mask_blur has no effect"),
        ({"mask_blur": 0, "inpainting_fill": 0, "inpaint_full_res": False}, "inpainting_fill is 1"),
        ({"mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": True}, "inpaint_full_res has no effect"),
    ],
)
def test_reported_of_a_mask(fields: dict[str, Any], word: str) -> None:
    (warning,) = redrawn(**fields).warnings
    assert word in warning
    assert redrawn(mask="", **fields).warnings == ()


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"subseed_strength": 0.1}, "subseed_strength", "not supported"),
        ({"seed_resize_from_w": 256}, "seed_resize_from_w", "not supported"),
        ({"restore_faces": True}, "restore_faces", "no face restorer"),
        ({"tiling": True}, "tiling", "cannot"),
        ({"styles": ["", "noir"]}, "styles", "no styles"),
        ({"refiner_checkpoint": "xl"}, "refiner_checkpoint", "not supported"),
        ({"firstpass_image": "x"}, "firstpass_image", "img2img"),
        ({"infotext": "Steps: 4"}, "infotext", "send the fields"),
        ({"enable_hr": True}, "enable_hr", "own sizes"),
        ({"controlnet_units": [{}]}, "controlnet_units", "no ControlNet"),
        ({"script_name": "X/Y/Z plot"}, "script_name", "not found"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True, {}]}}}, "alwayson_scripts", "'ADetailer'"),
        (
            {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}},
            "alwayson_scripts",
            "switch it",
        ),
        ({"alwayson_scripts": {"ControlNet": {"args": [{}]}}}, "alwayson_scripts", "switch it off"),
        ({"alwayson_scripts": {"FreeU": {"args": {"enabled": True}}}}, "alwayson_scripts", "FreeU"),
        ({"prompt": "a cat <lora:fluffy:0.8>"}, "prompt", "no LoRAs"),
        ({"negative_prompt": "<hypernet:x>"}, "negative_prompt", "hypernetworks"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "CLIP_stop_at_last_layers", "always 1"),
        ({"override_settings": {"sd_vae": "x.pt"}}, "sd_vae", "always"),
        ({"override_settings": {"samples_format": "avif"}}, "samples_format", "should be"),
        ({"sampler_name": "Euler b"}, "sampler_name", "Sampler not found"),
        ({"scheduler": "mine"}, "scheduler", "not found"),
        ({"steps": 0}, "steps", "greater than"),
        ({"steps": "many"}, "steps", "a valid integer"),
        ({"batch_size": 0}, "batch_size", "greater than"),
        ({"cfg_scale": -1}, "cfg_scale", "greater than"),
        ({"prompt": 5}, "prompt", "a string"),
        ({"force_task_id": ""}, "force_task_id", "not empty"),
    ],
)
def test_refused(fields: dict[str, Any], param: str, word: str) -> None:
    with pytest.raises(Refusal) as refused:
        drawn(**fields)
    assert refused.value.problem.param == param
    assert word in refused.value.problem.message


@pytest.mark.parametrize("name", ["latent_mask", "inpainting_mask_invert", "initial_noise_multiplier"])
def test_refused_of_a_mask(name: str) -> None:
    with pytest.raises(Refusal, match=name):
        redrawn(**{name: "x" if name == "latent_mask" else 2})


def test_the_nearest_steps_are_the_higher_of_two() -> None:
    many = Pictures(CAN.sizes, (4, 8, 20), 4)
    assert [drawn(many, steps=steps).steps for steps in (1, 6, 14, 15, 20, 150)] == [4, 8, 20, 20, 20, 20]


def test_the_source_is_made_to_fit_as_asked() -> None:
    modes = [policy.resize_of(validated(Img2ImgRequest, {"resize_mode": mode})) for mode in (0, 1, 2)]
    assert modes == [Resize.STRETCH, Resize.CROP, Resize.FILL]
    with pytest.raises(Refusal, match="latent upscale"):
        policy.resize_of(validated(Img2ImgRequest, {"resize_mode": 3}))


def test_there_is_one_picture_to_start_from() -> None:
    assert policy.init_image(validated(Img2ImgRequest, {"init_images": ["a"]})) == "a"
    faults: list[dict[str, Any]] = [
        {},
        {"init_images": []},
        {"init_images": None},
        {"init_images": ["a", "b"]},
    ]
    for wrong in faults:
        with pytest.raises(Refusal, match="init_images"):
            policy.init_image(validated(Img2ImgRequest, wrong))
