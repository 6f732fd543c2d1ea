from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.diffusion.lcm import LCM_TIMESTEPS
from models.diffusion.times import read_mlp, read_table, read_times, silu, sinusoid
from models.manifest import PackageProblem
from tests.golden.diffusion import ARRAYS, mlp_tensors
from tests.models.diffusion.files import table, time_mlp, write_mlp


def saved(path: Path, rows: np.ndarray[Any, Any]) -> Path:
    np.save(path, rows)
    return path


def test_rows_are_those_of_the_unets_own_time_embedding() -> None:
    expected = np.load(ARRAYS)["time"]
    for timestep, row in zip(LCM_TIMESTEPS, expected, strict=True):
        np.testing.assert_allclose(time_mlp().row(timestep), row, rtol=0, atol=1e-4)  # diffusers' phase: 6e-5
    np.testing.assert_allclose(time_mlp().row(19), expected[-1], rtol=0, atol=3e-6)


def test_the_sinusoid_begins_with_cosines() -> None:
    assert sinusoid(0, 320).tolist() == [1.0] * 160 + [0.0] * 160
    np.testing.assert_allclose(sinusoid(999, 320)[[0, 160]], [np.cos(999), np.sin(999)], atol=1e-6)


def test_silu_overflows_nowhere() -> None:
    values = silu(np.array([-1e30, -100, -1.2784645, 0, 100], dtype=np.float32))
    np.testing.assert_allclose(values, [0, 0, -0.2784645, 0, 100], atol=1e-6)


def test_the_shipped_table_allows_one_two_and_four_steps(tmp_path: Path) -> None:
    times = read_times(saved(tmp_path / "time_input_txt2img.npy", table()), None)
    assert times.steps == (1, 2, 4)
    assert times.feed(759).shape == (1, times.width)
    assert np.array_equal(times.feed(759)[0], table()[1])
    with pytest.raises(KeyError):
        times.feed(679)


def test_the_old_tables_name_makes_no_difference(tmp_path: Path) -> None:
    rows = read_table(saved(tmp_path / "time_input.npy", table()))
    assert list(rows) == [999, 759, 499, 259]


def test_zero_rows_of_the_img2img_table_are_never_used(tmp_path: Path) -> None:
    rows = table()
    rows[:2], rows[2:] = rows[2:].copy(), 0
    read = read_table(saved(tmp_path / "time_input_img2img.npy", rows))
    assert list(read) == [499, 259]
    assert np.array_equal(read[499], table()[2])


def test_a_table_of_fifty_rows_or_the_mlp_allows_any_number_of_steps(tmp_path: Path) -> None:
    whole = saved(tmp_path / "time_input_txt2img.npy", table(LCM_TIMESTEPS))
    write_mlp(tmp_path / "time_mlp.safetensors")
    stored, computed = read_times(whole, None), read_times(None, tmp_path / "time_mlp.safetensors")
    assert stored.steps == computed.steps == tuple(range(1, 51))
    assert stored.sha256 == computed.sha256
    assert np.array_equal(stored.feed(139), computed.feed(139))


def test_stored_rows_go_before_computed_ones(tmp_path: Path) -> None:
    nudged = table() + np.float32(1e-4)
    write_mlp(tmp_path / "time_mlp.safetensors")
    times = read_times(saved(tmp_path / "t.npy", nudged), tmp_path / "time_mlp.safetensors")
    assert np.array_equal(times.feed(999)[0], nudged[0])
    assert times.steps == tuple(range(1, 51))


def test_an_mlp_in_half_precision_is_the_same_model(tmp_path: Path) -> None:
    write_mlp(tmp_path / "m.safetensors", {k: v.astype(np.float16) for k, v in mlp_tensors().items()})
    times = read_times(saved(tmp_path / "t.npy", table()), tmp_path / "m.safetensors")
    assert times.feed(19).dtype == np.float32


def test_an_mlp_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    other = {name: values[::-1].copy() for name, values in mlp_tensors().items()}
    write_mlp(tmp_path / "m.safetensors", other)
    with pytest.raises(PackageProblem, match="are of different models"):
        read_times(saved(tmp_path / "t.npy", table()), tmp_path / "m.safetensors")


def test_time_inputs_that_differ_have_different_hashes(tmp_path: Path) -> None:
    one = read_times(saved(tmp_path / "a.npy", table()), None)
    other = read_times(saved(tmp_path / "b.npy", table() + np.float32(1e-5)), None)
    assert one.sha256 != other.sha256
    assert one.sha256 == read_times(tmp_path / "a.npy", None).sha256


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.zeros((4, 48), np.float32), "rows that no UNet's time embedding gives"),
        (np.full((4, 48), -0.3, np.float32), "rows that no UNet's time embedding gives"),
        (np.full((4, 48), np.nan, np.float32), "rows that no UNet's time embedding gives"),
        (np.ones((20, 48), np.float32), "has 20 rows.*another sampler"),
        (np.ones((4, 48)), "no table of time inputs"),
        (np.ones(48, np.float32), "no table of time inputs"),
    ],
)
def test_tables_of_anything_else_are_refused(tmp_path: Path, rows: np.ndarray[Any, Any], told: str) -> None:
    with pytest.raises(PackageProblem, match=told):
        read_table(saved(tmp_path / "time_input_txt2img.npy", rows))


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"not numpy at all", b"\x93NUMPY" + bytes(64)]
)
def test_tables_that_are_cut_short_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "time_input.npy").write_bytes(content)
    with pytest.raises(PackageProblem, match="cannot be read"):
        read_table(tmp_path / "time_input.npy")


def test_objects_in_a_table_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "time_input.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(PackageProblem, match="cannot be read"):
        read_table(tmp_path / "time_input.npy")


def test_files_that_hold_no_time_embedding_are_refused(tmp_path: Path) -> None:
    for name, tensors in {
        "other": {"conv_in.weight": np.zeros((2, 2), np.float32)},
        "odd": {**mlp_tensors(), "time_embedding.linear_2.bias": np.zeros(7, np.float32)},
    }.items():
        write_mlp(tmp_path / name, tensors)
        with pytest.raises(PackageProblem, match="time embedding"):
            read_mlp(tmp_path / name)
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(PackageProblem, match="does not hold a UNet's time embedding"):
        read_mlp(tmp_path / "junk")


def test_a_unet_without_time_inputs_says_which_file_is_missing() -> None:
    with pytest.raises(PackageProblem, match="time_input_txt2img"):
        read_times(None, None)
