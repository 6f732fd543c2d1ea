"""Cards that do rows or chunks wrong are found out, and what was found out is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.groups import ModelSettings
from hardware.card import CardInfo, KvWrite, Prefill
from hardware.errors import CardLost, FeedMismatch
from hardware.virtual.graph import VirtualStep
from models.llm import ways
from models.llm.network import Network
from models.llm.package import LlmPackage, find_package
from models.llm.probe import Findings, probe
from models.llm.ways import choose_ways
from tests.golden.llm import MODELS
from tests.models.cards import OtherCard, result

Quirk = Callable[[VirtualStep], None]


@pytest.fixture
def kind() -> str:
    """What is made wrong here is the virtual card's step."""
    return "virtual"


@pytest.fixture
def load(packages: Mapping[str, Path], card: OtherCard) -> Iterator[Callable[..., Network]]:
    networks = []

    def loaded(name: str = "qwen3") -> Network:
        networks.append(result(Network.load(card, find_package(packages[name]))))
        return networks[-1]

    yield loaded
    for network in networks:
        network.close()


@pytest.fixture
def network(load: Callable[..., Network]) -> Network:
    return load()


def bytes_of(step: VirtualStep, name: str) -> Any:
    """Where the tensor stands in card memory, as bytes that may be written."""
    slot = step._slots[name]
    offset = slot.start - slot.buffer.address
    return slot.buffer.bytes[offset : offset + slot.stop - slot.start]


def is_chunk(step: VirtualStep) -> bool:
    return "indices" in step._slots and step._slots["indices"].feed.spec.shape[-1] > 1


def has_history(step: VirtualStep) -> bool:
    shape = step._slots["mask"].feed.spec.shape
    return bool(shape[-1] > shape[-2])


# What a card could do wrong, after the step has run rightly.


def row_ignored(step: VirtualStep) -> None:
    """In place, nothing arrives."""
    for slot in step._in_place:
        slot.row[:] = 0


def row_lands_elsewhere(step: VirtualStep) -> None:
    """In place, the row arrives at the beginning of the cache, too."""
    for slot in step._in_place:
        bytes_of(step, slot.feed.spec.name.removesuffix("_out"))[: slot.row.size] = slot.row


def row_spills(step: VirtualStep) -> None:
    """In place, two bytes too many are written."""
    for slot in step._in_place:
        after = slot.start + slot.row.size - slot.buffer.address
        if after + 2 <= slot.buffer.size_bytes:
            slot.buffer.bytes[after : after + 2] = 7


def values_forgotten(step: VirtualStep) -> None:
    """In place, only K arrives."""
    for slot in step._in_place:
        if slot.feed.spec.name.startswith("V"):
            slot.row[:] = 0


def in_place_spoils_hidden(step: VirtualStep) -> None:
    if step._in_place:
        bytes_of(step, "output")[:2] ^= 1


def chunk_writes_nothing(step: VirtualStep) -> None:
    if is_chunk(step):
        bytes_of(step, "K_cache_out")[:] = 0


def chunk_shifts_its_rows(step: VirtualStep) -> None:
    if is_chunk(step):
        keys = bytes_of(step, "K_cache_out")
        keys[:] = np.roll(keys, 64)


def chunk_forgets_history(step: VirtualStep) -> None:
    """Hidden rows as if nothing had come before: here, of another sign."""
    if is_chunk(step) and has_history(step):
        bytes_of(step, "output")[1::2] ^= 0x80


def only_the_largest_group_is_wrong(step: VirtualStep) -> None:
    if is_chunk(step) and step._slots["K_cache"].feed.spec.shape[1] == MODELS[1].histories[-1]:
        bytes_of(step, "output")[:] = 1


def nothing_wrong(step: VirtualStep) -> None:
    pass


def suffer(quirk: Quirk, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = VirtualStep.execute

    def executed(step: VirtualStep, options: Any) -> None:
        execute(step, options)
        quirk(step)

    monkeypatch.setattr(VirtualStep, "execute", executed)


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_a_card_that_does_all_of_it_right_may_do_all_of_it(load: Callable[..., Network], name: str) -> None:
    network = load(name)
    assert probe(network) == Findings(KvWrite.ROW, Prefill.CHUNK)


def test_the_cache_is_zero_afterwards(network: Network) -> None:
    probe(network)
    for buffer in (*network.cache.keys, *network.cache.values):
        assert not any(buffer.read(0, buffer.size_bytes))


@pytest.mark.parametrize(
    "quirk", [row_ignored, row_lands_elsewhere, row_spills, values_forgotten, in_place_spoils_hidden]
)
def test_rows_done_wrong_are_copied(network: Network, quirk: Quirk, monkeypatch: pytest.MonkeyPatch) -> None:
    suffer(quirk, monkeypatch)
    found = probe(network)
    assert (found.kv_write, found.prefill) == (KvWrite.COPY, Prefill.CHUNK)
    assert len(found.problems) == 1
    assert found.problems[0].startswith("rows in place: layer 0, row ")


@pytest.mark.parametrize(
    "quirk",
    [
        chunk_writes_nothing,
        chunk_shifts_its_rows,
        chunk_forgets_history,
        only_the_largest_group_is_wrong,
    ],
)
def test_chunks_done_wrong_go_token_by_token(
    network: Network, quirk: Quirk, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffer(quirk, monkeypatch)
    found = probe(network)
    assert (found.kv_write, found.prefill) == (KvWrite.ROW, Prefill.DECODE)
    assert found.problems[0].startswith("chunks: group ")


def test_a_binding_that_is_refused_is_a_way_that_is_not_taken(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebind = VirtualStep.rebind

    def refusing(step: VirtualStep, name: str, view: Any) -> None:
        if name == "K_cache_out" and view.buffer in network.cache.keys:
            raise FeedMismatch("offsets are not bound")
        rebind(step, name, view)

    monkeypatch.setattr(VirtualStep, "rebind", refusing)
    found = probe(network)
    assert found.kv_write is KvWrite.COPY
    assert found.problems == ("rows in place: offsets are not bound",)


def test_a_card_that_is_lost_meanwhile_says_so(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(step: VirtualStep) -> None:
        raise CardLost("gone")

    suffer(lose, monkeypatch)
    with pytest.raises(CardLost):
        probe(network)


@pytest.fixture
def real(network: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network on a card that is not made of software, as far as it says; its rows are aligned."""
    firmware = ["V3.10.2"]
    info = network.card.info

    def told(card: OtherCard) -> CardInfo:
        return replace(info, is_virtual=False, firmware=firmware[0])

    monkeypatch.setattr(OtherCard, "info", property(told))
    monkeypatch.setattr("models.llm.decode._ALIGNED", 64)
    monkeypatch.setattr(network, "firmware", firmware, raising=False)
    return network


@pytest.fixture
def package(packages: Mapping[str, Path]) -> LlmPackage:
    return find_package(packages["qwen3"])


def ways_of(network: Network) -> tuple[bool, bool]:
    """(rows in place, by chunks)."""
    return network.decoder.writes_rows, bool(network.prefill_groups)


def count_probes(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    probed: list[Network] = []

    def counting(network: Network) -> Findings:
        probed.append(network)
        return probe(network)

    monkeypatch.setattr(ways, "probe", counting)
    return probed


def test_the_virtual_card_is_taken_at_its_word(
    network: Network, package: LlmPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = count_probes(monkeypatch)
    choose_ways(network, package, ModelSettings(), tmp_path / "probes.json")
    assert ways_of(network) == (True, True)
    assert probed == []


def test_a_real_card_is_probed_once_for_package_and_firmware(
    real: Any, package: LlmPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed, memory = count_probes(monkeypatch), tmp_path / "data" / "probes.json"
    for _ in range(2):
        choose_ways(real, package, ModelSettings(), memory)
        assert ways_of(real) == (True, True)
        assert len(probed) == 1
    real.firmware[0] = "V3.12.0"
    choose_ways(real, package, ModelSettings(), memory)
    assert len(probed) == 2
    os.utime(package.post, ns=(0, package.post.stat().st_mtime_ns + 1))
    choose_ways(real, package, ModelSettings(), memory)
    assert len(probed) == 3
    assert len(json.loads(memory.read_text())) == 3


def test_what_was_found_wrong_stays_off_and_is_logged(
    real: Any,
    package: LlmPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patched:
        suffer(row_ignored, patched)
        choose_ways(real, package, ModelSettings(), tmp_path / "probes.json")
    assert ways_of(real) == (False, True)
    assert "rows in place" in caplog.text
    choose_ways(real, package, ModelSettings(), tmp_path / "probes.json")
    assert ways_of(real) == (False, True)


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"x": 1}'])
def test_a_memory_that_cannot_be_read_is_made_anew(
    real: Any, package: LlmPackage, tmp_path: Path, kept: str
) -> None:
    memory = tmp_path / "probes.json"
    memory.write_text(kept)
    choose_ways(real, package, ModelSettings(), memory)
    assert ways_of(real) == (True, True)
    assert any(isinstance(entry, dict) for entry in json.loads(memory.read_text()).values())


def test_settings_overrule_probe_and_traits(
    real: Any, package: LlmPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = count_probes(monkeypatch)
    choose_ways(real, package, ModelSettings(kv_write="copy", prefill="decode"), None)
    assert ways_of(real) == (False, False)
    assert probed == []
    suffer(chunk_writes_nothing, monkeypatch)
    choose_ways(real, package, ModelSettings(kv_write="copy", prefill="chunk"), None)
    assert ways_of(real) == (False, True)


def test_rows_of_an_odd_size_are_copied_on_a_real_card_whatever_the_settings_say(
    real: Any, package: LlmPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.llm.decode._ALIGNED", 2048)
    choose_ways(real, package, ModelSettings(kv_write="row"), None)
    assert ways_of(real) == (False, True)
    assert "size that is not known to work" in probe(real).problems[0]
