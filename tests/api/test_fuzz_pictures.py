"""Whatever is asked to be drawn, nothing breaks: as native jobs, as grids, as JSON and forms of OpenAI's."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.jobs.pictures import ImageJobRequest
from api.openai.image_schemas import ImageEditRequest
from config.settings import Settings
from tests.api.conftest import client_of
from tests.api.painting import a_picture
from tests.api.test_fuzz import JSON, Fuzzed, _is_decent

PICTURE = base64.b64encode(a_picture()).decode()
TEXT = st.sampled_from([PICTURE, PICTURE[:40], "64x64", "64x96", "auto", "png", "low", "nan"]) | st.text(
    max_size=9
)
VALUE = JSON | TEXT | st.integers(0, 5)
NATIVE = st.sampled_from(
    sorted({field.alias or name for name, field in ImageJobRequest.model_fields.items()})
)
GRID = st.dictionaries(NATIVE | st.text(max_size=5), st.lists(VALUE, max_size=3) | JSON, max_size=3)
FIELD = st.sampled_from(sorted(ImageEditRequest.model_fields))
PART = st.tuples(FIELD | st.just("image[]"), st.binary(max_size=40), st.booleans())
FEW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def fuzzed(settings: Settings, house: redis.Redis) -> Iterator[Fuzzed]:
    # Room for all native jobs as a batch, and for none that somebody would have to wait for.
    queue = settings.queue.model_copy(update={"image_cap": 1, "batch_cap": 100_000, "chat_cap": 1})
    made = Fuzzed(client_of(settings.model_copy(update={"queue": queue})))
    assert made.post("/v1/jobs", b'{"kind": "image", "prompt": "x"}')[0] == 202
    yield made
    made.close()


@FEW
@given(fields=st.dictionaries(NATIVE, VALUE, max_size=4), grid=st.none() | GRID)
def test_no_field_and_no_grid_breaks_a_picture_job(fuzzed: Fuzzed, fields: dict[str, Any], grid: Any) -> None:
    body = {"kind": "image", "prompt": "x", "class": "batch", **fields}
    if grid is not None:
        body["grid"] = grid
    status, answer = fuzzed.post("/v1/jobs", json.dumps(body).encode())
    if status != 429:
        _is_decent(status, answer)


@FEW
@given(fields=st.dictionaries(FIELD, VALUE, max_size=4))
def test_no_field_breaks_an_edit(fuzzed: Fuzzed, fields: dict[str, Any]) -> None:
    body = {"prompt": "x", "image": PICTURE, **fields}
    status, answer = fuzzed.post("/v1/images/edits", json.dumps(body).encode())
    assert 400 <= status < 500
    _is_decent(status, answer)


@FEW
@given(
    parts=st.lists(st.tuples(FIELD | st.just("image[]"), st.binary(max_size=40), st.booleans()), max_size=4)
)
def test_no_form_breaks_an_edit(fuzzed: Fuzzed, parts: list[tuple[str, bytes, bool]]) -> None:
    body = b""
    for name, value, is_file in [("prompt", b"x", False), *parts]:
        label = f'--b\r\nContent-Disposition: form-data; name="{name}"' + (
            '; filename="f"' if is_file else ""
        )
        body += label.encode() + b"\r\n\r\n" + value + b"\r\n"
    status, answer = fuzzed.post("/v1/images/edits", body + b"--b--\r\n", "multipart/form-data; boundary=b")
    assert 400 <= status < 500
    _is_decent(status, answer)


@FEW
@given(body=st.binary(max_size=100))
def test_no_bytes_break_a_form(fuzzed: Fuzzed, body: bytes) -> None:
    status, answer = fuzzed.post("/v1/images/edits", body, "multipart/form-data; boundary=b")
    assert status == 400
    _is_decent(status, answer)
