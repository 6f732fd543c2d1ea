"""The banner tells the truth, loudly where the card is made of software, and what can be typed next works."""

from __future__ import annotations

import json

import pytest

from cli import banner
from cli.banner import Serving


def serving(**facts: object) -> Serving:
    told: dict[str, object] = {
        "url": "http://127.0.0.1:8850",
        "pid": 1,
        "data_dir": "/d",
        "models_dir": "/d/models",
        "logs": "/d/logs",
        "cards": [{"id": "virtual-0", "virtual": True, "name": "virtual AX650N"}],
        "models": [{"id": "hearth-chat"}],
        **facts,
    }
    return Serving(**told)  # type: ignore[arg-type]  # a test may leave out and replace any of them


def test_further_addresses_are_told() -> None:
    text = banner.words(serving(also={"Ollama": "http://127.0.0.1:11434"}))
    assert "Ollama     http://127.0.0.1:11434" in text


def test_a_virtual_card_is_said_loudly() -> None:
    assert "VIRTUAL" in banner.words(serving())
    real = [{"id": "axcl-0", "virtual": False, "name": "AX650N", "bus_id": "0001:01:00"}]
    assert "VIRTUAL" not in banner.words(serving(cards=real))


def test_what_is_amiss_is_said_instead_of_serving() -> None:
    text = banner.words(serving(faults=["card: virtual-0 is held (thermal): 81 °C"]))
    assert "serving" not in text
    assert "held (thermal)" in text


def test_a_password_is_shown_when_it_is_new_and_where_it_is_ever_after() -> None:
    new = banner.words(serving(dashboard="http://127.0.0.1:5555", dashboard_secret="hearth:pw123"))
    assert "pw123" in new
    later = banner.words(serving(dashboard="http://127.0.0.1:5555"))
    assert "/d/flower-password" in later


def test_unusable_models_are_named_with_the_reason() -> None:
    broken = [{"id": "half", "hearth": {"problem": "post.axmodel is missing"}}]
    assert "half cannot be used: post.axmodel is missing" in banner.words(serving(unusable=broken))


def test_without_a_model_it_says_where_to_put_one() -> None:
    text = banner.words(serving(models=[]))
    assert "put one into /d/models" in text
    assert "curl" not in text


def test_the_example_is_made_for_this_server() -> None:
    text = banner.words(serving(url="http://127.0.0.1:1", needs_key=True, models=[{"id": "tiny"}]))
    assert "curl -sN http://127.0.0.1:1/v1/chat/completions" in text
    assert '"model": "tiny"' in text
    assert "$HEARTH_API_KEY" in text
    assert "HEARTH_URL=http://127.0.0.1:1 ./hearth chat" in text


def test_every_kind_of_model_is_tried_with_what_it_does() -> None:
    draws = {"id": "drawer", "hearth": {"kind": "image"}}
    both = banner.words(serving(models=[draws, {"id": "talker", "hearth": {"kind": "chat"}}]))
    assert '"model": "talker"' in both
    assert './hearth image "' in both
    alone = banner.words(serving(models=[draws]))
    assert "curl" not in alone
    assert './hearth image "' in alone
    assert "./hearth image" not in banner.words(serving())


def test_json_is_one_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    banner.show(serving(ready_s=1.5), as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["ready_s"] == 1.5
