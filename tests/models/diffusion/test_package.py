from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.diffusion.extract import extract, main
from models.diffusion.geometry import Size
from models.diffusion.package import (
    PictureModel,
    assemble,
    find_package,
    is_diffusion,
    named_size,
    one_of_each_size,
    read_geometry,
)
from models.diffusion.preview import SD15
from models.diffusion.times import read_times
from models.manifest import PackageProblem
from tests.golden.diffusion import mlp_tensors
from tests.models.diffusion.files import shape_groups, table, write_graph, write_mlp, write_set


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "lcm-lora-sdv1-5"


def flat(root: Path) -> None:
    """Everything beside the UNet."""
    for path in list((root / "text_encoder").iterdir()) + list((root / "tokenizer").iterdir()):
        path.rename(root / path.name)
    (root / "text_encoder").rmdir()
    (root / "tokenizer").rmdir()


def old(root: Path) -> None:
    """The first layout, which only draws from text."""
    (root / "vae_decoder.axmodel").rename(root / "vae.axmodel")
    (root / "vae_encoder.axmodel").unlink()
    (root / "time_input_txt2img.npy").rename(root / "time_input.npy")
    (root / "time_input_img2img.npy").unlink()


def by_role(root: Path) -> None:
    """Each graph in a directory of its own, as in checkpoints."""
    for name in ("unet", "vae_decoder", "vae_encoder"):
        (root / name).mkdir()
        (root / f"{name}.axmodel").rename(root / name / f"{name}.axmodel")


@pytest.mark.parametrize("layout", [lambda root: None, flat, old, by_role])
@pytest.mark.parametrize("place", [".", "models"])
def test_every_layout_is_taken_as_it_is_downloaded(
    package: Path, layout: Callable[[Path], None], place: str
) -> None:
    root = write_set(package / place)
    layout(root)
    assert is_diffusion(package)
    found = find_package(package)
    assert found.skipped == ()
    (variant,) = found.variants
    assert variant.text_encoder.name == "sd15_text_encoder_sim.axmodel"
    assert (variant.tokenizer / "merges.txt").is_file()
    assert variant.unet.name == "unet.axmodel"
    assert variant.vae_decoder.name == ("vae.axmodel" if layout is old else "vae_decoder.axmodel")
    assert (variant.vae_encoder is None) == (layout is old)
    assert variant.time_table is not None
    assert "img2img" not in variant.time_table.name
    assert read_geometry(variant).size == Size(512, 512)
    assert read_times(variant.time_table, variant.time_mlp).steps == (1, 2, 4)


def test_one_package_may_hold_several_sizes(package: Path) -> None:
    write_set(package / "models")
    write_set(package / "models_1024x768", 1024, 768)
    found = find_package(package)
    geometries = [read_geometry(variant) for variant in found.variants]
    one_of_each_size([each.size for each in geometries])
    assert [str(geometry.size) for geometry in geometries] == ["512x512", "768x1024"]
    assert [variant.named_size for variant in found.variants] == [None, Size(1024, 768)]
    assert len({variant.text_encoder for variant in found.variants}) == 2


def test_sizes_may_share_text_encoder_and_tokenizer_but_not_time_inputs(package: Path) -> None:
    write_set(package / "models")
    second = write_set(package / "models_1024x768", 1024, 768)
    shutil.rmtree(second / "text_encoder")
    shutil.rmtree(second / "tokenizer")
    found = find_package(package)
    assert len({variant.text_encoder for variant in found.variants}) == 1
    graphs = {path for variant in found.variants for path in variant.graphs}
    assert found.size_bytes == sum(path.stat().st_size for path in graphs)
    (second / "time_input_txt2img.npy").unlink()
    found = find_package(package)
    assert len(found.variants) == 1
    assert found.skipped[0].startswith("models_1024x768/unet.axmodel: time_input_txt2img.npy is missing")


def test_a_set_takes_nothing_from_another_sets_directory(package: Path) -> None:
    write_set(package)
    inner = write_set(package / "models_256x256", 256, 256)
    for name in ("vae_decoder.axmodel", "time_input_txt2img.npy"):
        (package / name).unlink()
    found = find_package(package)
    assert [variant.directory for variant in found.variants] == [inner]
    assert found.skipped[0].startswith("unet.axmodel: vae_decoder.axmodel is missing")


def test_what_lies_beside_the_graphs_must_fit_them(package: Path) -> None:
    root = write_set(package / "models")

    def assembled() -> PictureModel:
        (variant,) = find_package(package).variants
        return assemble(variant, read_geometry(variant))

    assert assembled().preview is SD15
    assert assembled().times.steps == (1, 2, 4)
    np.save(root / "latent_rgb.npy", np.ones((5, 3), np.float32))
    own = assembled().preview
    assert own is not None
    assert own.bias.tolist() == [1, 1, 1]
    np.save(root / "latent_rgb.npy", np.ones((9, 3), np.float32))
    with pytest.raises(PackageProblem, match="latents of 8 channels, but the model has 4"):
        assembled()
    (root / "latent_rgb.npy").unlink()
    np.save(root / "time_input_txt2img.npy", table()[:, :40])
    with pytest.raises(PackageProblem, match="time inputs are 40 wide, but its UNet takes 48"):
        assembled()


def test_a_vae_of_other_latents_has_no_preview_of_its_own(package: Path) -> None:
    write_set(package / "models")
    (variant,) = find_package(package).variants
    geometry = read_geometry(variant)
    sample = replace(geometry.unet.sample, shape=(1, 8, 64, 64))
    other = replace(geometry, unet=replace(geometry.unet, sample=sample))
    assert assemble(variant, other).preview is None


def test_two_models_of_one_size_cannot_be_told_apart(package: Path) -> None:
    write_set(package / "models")
    write_set(package / "rv")
    geometries = [read_geometry(variant) for variant in find_package(package).variants]
    with pytest.raises(PackageProblem, match="2 models for 512x512 pixels: give each a directory"):
        one_of_each_size([each.size for each in geometries])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("models_1024x768", Size(1024, 768)),
        ("models_320X320", Size(320, 320)),
        ("sd15-480x320-lcm", Size(480, 320)),
        ("models", None),
        ("sd1.5", None),
    ],
)
def test_directories_are_named_height_by_width(name: str, size: Size | None) -> None:
    assert named_size(Path(name)) == size


def unlink(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def torch_text_encoder(root: Path) -> None:
    (root / "text_encoder" / "sd15_text_encoder_sim.axmodel").unlink()
    (root / "text_encoder" / "model.safetensors").write_bytes(b"weights")


def other_sampler(root: Path) -> None:
    (root / "time_input_txt2img.npy").unlink()
    np.save(root / "time_input_dpmpp_20steps.npy", np.ones((20, 48), np.float32))


def pointer(root: Path) -> None:
    (root / "unet.axmodel").write_text("version https://git-lfs.github.com/spec/v1\nsize 900000000\n")


def uncompiled(root: Path) -> None:
    (root / "unet.axmodel").rename(root / "unet.onnx")


def twins(root: Path) -> None:
    shutil.copy(root / "unet.axmodel", root / "unet_768.axmodel")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (unlink("vae_decoder.axmodel"), "vae_decoder.axmodel is missing.*download it again"),
        (unlink("time_input_txt2img.npy"), "time_input_txt2img.npy is missing.*another model will not do"),
        (unlink("text_encoder/sd15_text_encoder_sim.axmodel"), "text_encoder_sim.axmodel is missing"),
        (unlink("tokenizer/merges.txt"), "no tokenizer in it: put vocab.json and merges.txt"),
        (torch_text_encoder, "text encoder is a PyTorch checkpoint.*put sd15_text_encoder_sim.axmodel"),
        (other_sampler, r"time_input_dpmpp_20steps.npy\) are for another sampler"),
        (pointer, "unet.axmodel is a Git LFS pointer"),
        (uncompiled, "UNet is not compiled for this card"),
        (twins, "2 UNets lie side by side"),
    ],
)
def test_what_cannot_be_used_says_why_and_what_to_do(
    package: Path, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(write_set(package / "models"))
    assert is_diffusion(package)
    with pytest.raises(PackageProblem, match=told):
        find_package(package)


def test_packages_for_other_chips_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "lcm-lora-sdv1-5-ax620e" / "models")
    with pytest.raises(PackageProblem, match="compiled for the AX620E, and this card is an AX650N"):
        find_package(tmp_path / "lcm-lora-sdv1-5-ax620e")


def test_graphs_of_a_real_card_are_told_from_those_of_the_virtual_one(package: Path) -> None:
    root = write_set(package / "models_512x512")
    (root / "unet.axmodel").write_bytes(bytes(4096))
    with pytest.raises(PackageProblem, match=r"graphs \(512x512 pixels\) cannot run on the virtual card"):
        read_geometry(find_package(package).variants[0])


def test_language_models_are_no_picture_models(tmp_path: Path) -> None:
    (tmp_path / "qwen3_p128_l0_together.axmodel").write_bytes(b"x")
    assert not is_diffusion(tmp_path)


def test_the_hash_is_of_the_unet_and_its_time_inputs(package: Path) -> None:
    root = write_set(package / "models")
    (variant,) = find_package(package).variants
    before = variant.sha256()
    np.save(root / "vae_decoder.axmodel.npy", table())
    assert variant.sha256() == before
    np.save(root / "time_input_txt2img.npy", table() + np.float32(1e-5))
    assert variant.sha256() != before
    np.save(root / "time_input_txt2img.npy", table())
    write_graph(root / "unet.axmodel", shape_groups(256, 256)["unet"])
    assert variant.sha256() != before


def test_the_time_mlp_of_a_checkpoint_allows_any_number_of_steps(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_set(package / "models")
    checkpoint = package.with_name("diffusion_pytorch_model.safetensors")
    write_mlp(checkpoint, {**mlp_tensors(), "conv_in.weight": np.zeros((4, 4), np.float32)})
    assert main([str(checkpoint), str(package)]) == 0
    assert capsys.readouterr().out == f"wrote {root / 'time_mlp.safetensors'}\n"
    (variant,) = find_package(package).variants
    assert read_times(variant.time_table, variant.time_mlp).steps == tuple(range(1, 51))


def test_the_time_mlp_of_another_checkpoint_is_not_left_behind(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_set(package / "models")
    checkpoint = package.with_name("other.safetensors")
    write_mlp(checkpoint, {name: values[::-1].copy() for name, values in mlp_tensors().items()})
    before = sorted(root.iterdir())
    assert main([str(checkpoint), str(package)]) == 1
    assert "different models" in capsys.readouterr().err
    assert sorted(root.iterdir()) == before


def test_extracting_without_a_package_says_so(tmp_path: Path) -> None:
    write_mlp(tmp_path / "m.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackageProblem, match="not compiled"):
        extract(tmp_path / "m.safetensors", tmp_path / "empty")
