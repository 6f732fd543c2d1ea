"""What cards were seen to do wrong, one by one: the probe finds it out, says so, and answers stay right."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.groups import ModelSettings
from hardware.card import KvWrite, Prefill
from hardware.virtual.abi.options import Mode, Quirk
from models.llm.network import Network
from models.llm.package import find_package
from models.llm.ways import choose_ways
from tests import axclsim
from tests.golden.llm import ANSWERS
from tests.models.cards import prefill, result

GOLDEN = json.loads(ANSWERS.read_text(encoding="utf-8"))["models"]
NAME = "wide"
"""The golden model whose rows are as wide as a real card wants them."""

FAST = (KvWrite.ROW, Prefill.CHUNK)
FALLBACKS: dict[Quirk | None, tuple[KvWrite, Prefill]] = {
    None: FAST,
    Quirk.ROW_IGNORED: (KvWrite.COPY, Prefill.CHUNK),
    Quirk.OFFSET_BIND_STALE: (KvWrite.COPY, Prefill.CHUNK),
    Quirk.SMALL_CHUNK_STALE: (KvWrite.ROW, Prefill.DECODE),
    # Met by construction: one IO handle for each step.
    Quirk.GROUP_SHARES_IO_STALE: FAST,
    Quirk.SECOND_ENGINEINIT_FAILS: FAST,
    Quirk.STREAM_STALE: FAST,  # no stream is used unless it is asked for
    Quirk.OOM_AS_070C: FAST,
    Quirk.CMM_NOT_RETURNED: FAST,
    Quirk.FREE_HANGS_WHEN_DEAD: FAST,
    # All graphs of a package are a language model's.
    Quirk.ONNX_AFTER_LLM_DROPS: FAST,
}


def test_every_quirk_has_a_line() -> None:
    assert set(FALLBACKS) == {*Quirk, None}


@contextmanager
def loaded(
    library: Path, place: Path, package: Path, mode: Mode, *quirks: Quirk, **options: Any
) -> Iterator[Network]:
    told = axclsim.strict(place, mode=mode, quirks=frozenset(quirks))
    with axclsim.simulated(told), axclsim.open_card(library, place, **options) as card:
        network = result(Network.load(card, find_package(package)))
        choose_ways(network, find_package(package), ModelSettings(), place / "probes.json")
        yield network
        network.close()


def ways_of(network: Network) -> tuple[KvWrite, Prefill]:
    return (
        KvWrite.ROW if network.decoder.writes_rows else KvWrite.COPY,
        Prefill.CHUNK if network.prefill_groups else Prefill.DECODE,
    )


def check_answer(network: Network) -> None:
    case = min(GOLDEN[NAME], key=lambda each: len(each["prompt"]) + len(each["answer"]))
    logits = prefill(network, case["prompt"])
    for position, token in enumerate(case["answer"], len(case["prompt"])):
        floats = (logits.astype(np.uint32) << 16).view(np.float32)
        assert int(floats.argmax()) == token
        logits = network.decoder.forward(token, position)


@pytest.mark.parametrize("quirk", FALLBACKS)
def test_the_right_way_is_found_said_and_remembered(
    quirk: Quirk | None,
    axcl_library: Path,
    tmp_path: Path,
    packages: Mapping[str, Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quirks = () if quirk is None else (quirk,)
    caplog.set_level(logging.WARNING, "hearth.models")
    with loaded(axcl_library, tmp_path, packages[NAME], Mode.STRICT, *quirks) as network:
        assert ways_of(network) == FALLBACKS[quirk]
        check_answer(network)
    assert ("the slower, safe way is used" in caplog.text) == (FALLBACKS[quirk] != FAST)
    with monkeypatch.context() as patched:
        patched.setattr("models.llm.ways.probe", None)  # not to be called again
        with loaded(axcl_library, tmp_path, packages[NAME], Mode.STRICT, *quirks) as network:
            assert ways_of(network) == FALLBACKS[quirk]


@pytest.mark.parametrize(
    "quirk",
    [Quirk.ROW_IGNORED, Quirk.OFFSET_BIND_STALE, Quirk.SMALL_CHUNK_STALE, Quirk.GROUP_SHARES_IO_STALE],
)
def test_a_card_that_says_nothing_is_found_out_as_well(
    quirk: Quirk, axcl_library: Path, tmp_path: Path, packages: Mapping[str, Path]
) -> None:
    with loaded(axcl_library, tmp_path, packages[NAME], Mode.SILENT, quirk) as network:
        assert ways_of(network) == FALLBACKS[quirk]
        check_answer(network)


@pytest.mark.parametrize("quirks", [(), (Quirk.STREAM_STALE,)])
def test_a_stream_is_used_where_a_token_comes_out_the_same(
    quirks: tuple[Quirk, ...],
    axcl_library: Path,
    tmp_path: Path,
    packages: Mapping[str, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    package = packages[NAME]
    with loaded(axcl_library, tmp_path, package, Mode.STRICT, *quirks, execute="stream") as network:
        assert network.card.traits.stream_execution == (not quirks)
        check_answer(network)
    assert ("over a stream, logits differ" in caplog.text) == bool(quirks)


def test_all_of_it_at_once(axcl_library: Path, tmp_path: Path, packages: Mapping[str, Path]) -> None:
    with loaded(axcl_library, tmp_path, packages[NAME], Mode.SILENT, *Quirk) as network:
        assert ways_of(network) == (KvWrite.COPY, Prefill.DECODE)
        check_answer(network)


def test_an_sdk_of_another_version_is_probed_anew(
    axcl_library: Path, tmp_path: Path, packages: Mapping[str, Path]
) -> None:
    for sdk in ("V3.6.5_20250901000000", "V3.10.2_20251215140224"):
        told = axclsim.strict(tmp_path, sdk=sdk)
        with axclsim.simulated(told), axclsim.open_card(axcl_library, tmp_path) as card:
            package = find_package(packages[NAME])
            network = result(Network.load(card, package))
            choose_ways(network, package, ModelSettings(), tmp_path / "probes.json")
    assert len(json.loads((tmp_path / "probes.json").read_text())) == 2


def test_the_logits_are_those_of_the_virtual_card_to_the_bit(
    axcl_library: Path, tmp_path: Path, packages: Mapping[str, Path]
) -> None:
    from config.groups import VirtualCardSettings
    from hardware.virtual.card import VirtualCard

    package = find_package(packages[NAME])
    prompt = GOLDEN[NAME][-1]["prompt"]
    rows = []
    with VirtualCard(tmp_path / "virtual", VirtualCardSettings()) as card:
        network = result(Network.load(card, package))
        rows += [prefill(network, prompt).copy(), network.decoder.forward(7, len(prompt)).copy()]
    with loaded(axcl_library, tmp_path, packages[NAME], Mode.STRICT) as network:
        rows += [prefill(network, prompt).copy(), network.decoder.forward(7, len(prompt)).copy()]
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows[1], rows[3])
