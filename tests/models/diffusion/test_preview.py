from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.diffusion.preview import SD15, preview, read_matrix
from models.manifest import PackageProblem


def test_a_latent_shows_the_colour_that_the_matrix_makes_of_it() -> None:
    latent = np.zeros((1, 4, 6, 8), dtype=np.float32)
    latent[0, 0] = 1
    shown = preview(latent, SD15, (48, 64))
    assert shown.shape == (48, 64, 3)
    assert shown.dtype == np.uint8
    expected = [int(127.5 + 127.5 * factor) for factor in (0.3444, 0.1385, 0.0670)]
    assert np.unique(shown.reshape(-1, 3), axis=0).tolist() == [expected]


def test_a_preview_stands_as_the_latent_stands() -> None:
    latent = np.zeros((1, 4, 4, 4), dtype=np.float32)
    latent[0, 0, 0, :] = 3
    shown = preview(latent, SD15, (32, 32))
    assert shown[0].mean() > shown[31].mean()
    assert shown[:, 0].mean() == shown[:, 31].mean()


def test_a_broken_latent_still_has_a_preview() -> None:
    latent = np.full((1, 4, 4, 4), np.nan, dtype=np.float32)
    latent[0, :, 0, :2] = [1e38, np.inf]
    assert preview(latent, SD15, (8, 8)).shape == (8, 8, 3)


def test_a_package_may_bring_a_matrix_for_its_own_vae(tmp_path: Path) -> None:
    rows = np.vstack([np.zeros((8, 3)), [[1.0, 0.0, -1.0]]]).astype(np.float32)
    np.save(tmp_path / "latent_rgb.npy", rows)
    matrix = read_matrix(tmp_path / "latent_rgb.npy")
    assert matrix.channels == 8
    shown = preview(np.ones((1, 8, 2, 2), dtype=np.float32), matrix, (2, 2))
    assert shown[0, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((5, 4), np.float32),
        np.zeros((5, 3)),
        np.zeros((1, 3), np.float32),
        np.full((5, 3), np.inf, np.float32),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "latent_rgb.npy", rows)
    with pytest.raises(PackageProblem, match="no preview matrix"):
        read_matrix(tmp_path / "latent_rgb.npy")


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latent_rgb.npy").write_bytes(b"")
    with pytest.raises(PackageProblem, match="cannot be read"):
        read_matrix(tmp_path / "latent_rgb.npy")
