"""The groups of settings, each setting once: type, default, unit and a sentence for the person who sets it.

They are read by ``config.settings``, which has what stands in no group.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from config.networks import holds_public

Seconds = Annotated[float, Field(gt=0)]
Celsius = Annotated[float, Field(ge=-20, le=120)]
Count = Annotated[int, Field(ge=1)]


def _host_name(name: str) -> str:
    if not re.fullmatch(r"(\*\.)?[a-z0-9._:-]{1,253}", name.lower()):
        raise ValueError(
            f"{name!r} is no name of a host: write it without scheme, port and brackets, as hearth.local"
        )
    return name.lower()


def _origin(origin: str) -> str:
    if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s/*]+", origin.lower()):
        raise ValueError(
            f"{origin!r} is no origin: write scheme, host and port, no path, as http://localhost:3000"
        )
    return origin.lower()


HostName = Annotated[str, AfterValidator(_host_name)]
"""The name of a host, or ``*.`` and the end of many."""
Origin = Annotated[str, AfterValidator(_origin)]
"""Where a web page is from, as browsers say it in the header of that name; ``*`` is anywhere."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueueSettings(_Group):
    """How much work is accepted and how long what was done is remembered."""

    chat_cap: Count = 32
    """Chat jobs that may wait or run at once; one more is answered 429."""
    priority_cap: Count = 8
    """Chat jobs that may wait or run ahead of the others at once (``service_tier`` priority)."""
    background_last: bool = True
    """Titles, tags, follow-up questions and completions that a chat UI asks for by itself wait behind chats,
    as ``service_tier`` flex does, where they can be told from a person's question."""
    priority_for: Literal["all", "admin", "none"] = "all"
    """Whose chats may go ahead of the others': everybody's, those of keys with the scope ``admin``, or
    nobody's. Where they may not, they are served as others are, and the answer says so."""
    image_cap: Count = 64
    """Picture jobs that may wait or run at once."""
    batch_cap: Count = 5000
    """Batch jobs that may wait or run at once."""
    key_cap: Count | None = None
    """Jobs of one API key that may wait or run at once, whatever their class; not set: as many as the classes
    hold."""
    max_strikes: Count = 3
    """How often a worker process may die while executing one job before the job fails with worker_lost."""
    max_card_losses: Count = 3
    """How often the card may be lost under one job, which goes back to the queue each time, before the job
    fails with card_unavailable."""
    lease_s: Seconds = 20.0
    """A worker that has not renewed its lease for this long has lost its job."""
    reader_ttl_s: Seconds = 15.0
    """A reader that has not been seen for this long has left."""
    reader_grace_s: Seconds = 10.0
    """How long a streamed job goes on without any reader before it is cancelled."""
    chat_deadline_s: Seconds = 3600.0
    """A chat job that has not ended after this long expires."""
    image_deadline_s: Seconds = 3600.0
    """A picture job that has not ended after this long expires."""
    batch_deadline_s: Seconds = 86400.0
    """A batch job that has not ended after this long expires."""
    flex_deadline_s: Seconds = 900.0
    """A batch job that somebody waits for on the line (``service_tier`` flex, the background work of a chat
    UI) expires after this long."""
    retention_s: Seconds = 7 * 86400.0
    """Records and files of ended jobs are kept this long."""
    retention_bytes: Count = 5_000_000_000
    """Files of ended jobs may take so many bytes; the oldest jobs go first, record and files together."""
    file_retention_s: Seconds = 30 * 86400.0
    """Files of /v1/files, and what is told of ended batches, are kept this long, unless a request asks for
    less."""
    journal_ttl_s: Seconds = 3600.0
    """The journal of an ended job can be replayed this long."""
    vectors_ttl_s: Seconds = 120.0
    """Embeddings that somebody waited for are kept this long after they were made, texts and vectors; those
    of jobs as long as other records."""
    idempotency_ttl_s: Seconds = 86400.0
    """An Idempotency-Key is remembered this long."""
    coalesce_ms: Annotated[int, Field(ge=0, le=1000)] = 40
    """Tokens made within this time of one another travel in one event; the first one never waits."""
    redis_patience_s: Seconds = 60.0
    """How long a running job waits for a Redis that does not answer."""


class LimitSettings(_Group):
    """What a request may be at most."""

    body_bytes: Count = 4 * 1024 * 1024
    """Larger request bodies are answered 413."""
    picture_body_bytes: Count = 32 * 1024 * 1024
    """The same where pictures may come with the request."""
    picture_bytes: Count = 20 * 1024 * 1024
    """Bytes of one input picture's file."""
    picture_pixels: Count = 4096 * 4096
    """Pixels of one input picture; more is never decoded."""
    schema_bytes: Count = 32 * 1024
    """Bytes of a JSON schema that an answer is to be bound to."""
    prompt_chars: Count = 10_000
    """Characters of a picture's prompt, and of its negative prompt."""
    pictures_per_request: Count = 100
    """Pictures one request of OpenAI's or A1111's API may ask for."""
    embedding_inputs: Count = 2048
    """Texts that one request for embeddings may hold."""
    messages: Count = 1024
    """Messages in one conversation."""
    stop_strings: Count = 4
    """Stop strings in one request."""
    choices: Annotated[int, Field(ge=1, le=128)] = 8
    """Answers one chat or completion may ask for (``n``)."""
    metadata_pairs: Count = 16
    """Pairs of metadata on one job (keys up to 64, values up to 512 characters)."""
    jobs_per_request: Count = 1000
    """Jobs one POST /v1/jobs may submit."""
    file_bytes: Count = 64 * 1024 * 1024
    """Bytes of one file that is sent to /v1/files."""
    files_bytes: Count = 4_000_000_000
    """Bytes of all files of /v1/files together; beyond it uploads are answered 507. What batches come to is
    always kept, and counts."""
    files_per_key: Count = 1000
    """Files of /v1/files that one API key may have."""
    batch_lines: Count = 5000
    """Lines in the file of one batch."""
    batches_per_key: Count = 32
    """Batches of one API key that have not ended."""
    wait_s: Seconds = 300.0
    """The longest ``Prefer: wait=N`` that is honoured."""


class RateSettings(_Group):
    """How much one API key may ask for within a minute; who asks without one counts as one. ``hearth keys add
    --per-minute`` sets it for a key by itself."""

    requests_per_minute: Count | None = None
    """Requests that make jobs, however many each makes; one more is answered 429. Not set: any number."""
    tokens_per_minute: Count | None = None
    """Tokens of prompts and answers. They are counted when a job has ended: what is beyond delays the next
    request. Not set: any number."""


_HOST_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?(:[0-9]{1,5})?")


class WebhookSettings(_Group):
    """Who may be told that a job has ended, and how often it is tried. Nobody, unless it stands here: see
    docs/webhooks.md."""

    allowed_hosts: tuple[str, ...] = ()
    """Names that webhooks may go to: ``hooks.example.org``, ``*.example.org`` (every name below it), ``*``
    (every name). Port 443, unless another stands with the name: ``example.org:8443``."""
    private_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks at home that webhooks may go to, in CIDR notation: ``192.168.1.0/24``. Plain http is taken
    there, and on any port; a name that leads there has to stand in ``allowed_hosts`` as well."""
    timeout_s: Annotated[float, Field(gt=0, le=5)] = 5.0
    """One attempt may take this long, whatever the receiver does."""
    retry_first_s: Seconds = 5.0
    """The first retry comes after this long; each later one waits three times as long as the one before."""
    retry_most_s: Seconds = 3600.0
    """The longest wait between two attempts, also when a receiver asks for more by ``Retry-After``."""
    give_up_s: Seconds = 86400.0
    """Nothing is tried again this long after the event."""
    at_once: Count = 8
    """Attempts that one API process makes at the same time."""
    per_key: Count = 16
    """Endpoints that one API key may register."""

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(host.lower() for host in hosts)
        for host in lowered:
            if not _HOST_PATTERN.fullmatch(host):
                raise ValueError(f"{host!r} is no name like hooks.example.org, *.example.org:8443 or *")
        return lowered

    @field_validator("private_networks")
    @classmethod
    def _private(
        cls, networks: tuple[IPv4Network | IPv6Network, ...]
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        for network in networks:
            if holds_public(network):
                raise ValueError(f"{network} is not a private network: public names go into allowed_hosts")
        return networks


class ThermalSettings(_Group):
    """When the card is rested. All temperatures in °C of the card's own sensor. All but ``poll_s`` can be
    changed while Hearth runs: `PATCH /v1/device/thresholds`."""

    ease_c: Celsius = 75.0
    """From this temperature on work is eased: rests between steps, longer the warmer the card is."""
    hold_c: Celsius = 80.0
    """At this temperature the queue pauses and a running job rests."""
    resume_c: Celsius = 70.0
    """At this temperature work goes on."""
    unload_c: Celsius = 90.0
    """At this temperature models are taken off the card, and it is held."""
    least_duty: Annotated[float, Field(ge=0.05, le=1)] = 0.1
    """The share of the time that the card still works when it is eased most; 1 does not ease at all."""
    poll_s: Seconds = 5.0
    """Seconds between two readings."""
    missing_polls: Count = 3
    """After so many polls without a reading the card is held."""
    hold_without_readings: bool = True
    """Hold when readings are missing. Off only for a card whose sensor is known to be broken."""

    @model_validator(mode="after")
    def _in_order(self) -> ThermalSettings:
        names = ("resume_c", "ease_c", "hold_c", "unload_c")
        for lower, upper in pairwise(names):
            below, above = getattr(self, lower), getattr(self, upper)
            if below >= above:
                raise ValueError(f"{lower} ({below:g}) must be below {upper} ({above:g})")
        return self


class RecoverySettings(_Group):
    """How a lost card is brought back."""

    reboots: Annotated[int, Field(ge=0, le=3)] = 3
    """How often it is rebooted: at once, after 2 and after 10 minutes. Then only a person can help."""
    confirm_s: Seconds = 30.0
    """So long its health must not be readable, too, before it is rebooted."""
    settle_s: Seconds = 60.0
    """So long it is left alone when it boots."""


class ModelSettings(_Group):
    """How models use the card."""

    cache_slots: Annotated[int, Field(ge=1, le=64)] = 4
    """Conversations of one model whose tokens stay on the card, so that their next turn computes only what is
    new. Each takes as much card memory as the whole context (377 MB with Qwen3-4B); 1 keeps only the last."""
    cache_reserve_mib: Annotated[int, Field(ge=0)] = 512
    """Card memory, in MiB, that slots beyond the first leave free. They are given back when another model
    needs the room."""
    kv_write: Literal["auto", "row", "copy"] = "auto"
    """How new K/V rows reach the cache: written in place, or copied on the card. ``auto``: in place where a
    probe has shown that card, firmware and package do it right."""
    memory_patience_s: Annotated[float, Field(ge=0, le=50)] = 20.0
    """How long a model waits for card memory that should be free and is not, before its job fails."""
    margin_mib: Annotated[int, Field(ge=0)] = 256
    """Card memory, in MiB, that models leave free on a real card; below it nothing more is loaded."""
    pinned: tuple[str, ...] = ()
    """Ids of models that, once loaded, stay on the card: others never push them off. A package says so
    of itself with ``keep_resident`` in its hearth.toml."""
    preload: tuple[str, ...] = ()
    """Ids of models to load when the worker starts, in this order. None named: the chat model, if there is
    only one."""
    catalogue: tuple[Path, ...] = ()
    """Directories of this machine (a USB stick, a share) whose packages may be pulled into the models
    directory, by `hearth models pull` and by Ollama's clients. Nothing is ever fetched from anywhere else."""
    catalogue_allow: tuple[str, ...] = ("*",)
    """Which of them: names, or patterns with `*` and `?`."""
    prefill: Literal["auto", "chunk", "decode"] = "auto"
    """How prompts go through the layers: by chunks, or token by token, which is slower by far. ``auto``: by
    chunks where a probe has shown that they give the same."""

    @field_validator("catalogue")
    @classmethod
    def _at_home(cls, places: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(place.expanduser().absolute() for place in places)


class WorkerSettings(_Group):
    """The process that owns the card."""

    child_memory_mib: Annotated[int, Field(ge=1)] | None = None
    """When it has more memory of its own, in MiB, after a job, a fresh process takes over before the next and
    loads the models anew. What is on a virtual card does not count, nor do files that are mapped. Not set:
    half of the machine's memory."""


class VirtualCardSettings(_Group):
    """The card made of software that serves where no other is found."""

    memory_mib: Annotated[int, Field(ge=64, le=65536)] = 7040
    """Its CMM, in MiB."""
    ambient_c: Celsius = 24.0
    """Temperature of the room it stands in."""
    timing: Literal["none", "pi5"] = "none"
    """``pi5`` makes transfers and executes take as long as on a Raspberry Pi 5."""
    threads: Count = 1
    """Threads of the engine that runs its graphs."""
    torn: bool = False
    """Test mode: cache rows about to be written hold random values while a step runs."""


class AxclSettings(_Group):
    """How a card behind PCIe is driven. Each is a way round something that a card, driver or SDK may do
    differently; a card that works needs none of them."""

    library: Path | None = None
    """Path of libaxcl_rt.so; unset, it is looked for in /usr/lib/axcl and where ldconfig says."""
    config: str = "own"
    """What the runtime is opened with: ``own`` (logs in the data directory), ``none`` (the vendor's default),
    or the path of an axcl.json."""
    log_level: Annotated[int, Field(ge=0, le=6)] = 3
    """How much the vendor's runtime logs: 0 all, 6 nothing."""
    wait_s: Annotated[float, Field(ge=0)] = 15.0
    """How long to wait for a card that is not up yet."""
    memory_mib: Annotated[int, Field(ge=64, le=65536)] = 7040
    """CMM of the card, in MiB: 7040 on a card of 8 GB, 2944 or 3072 on one of 4 GB."""
    zero: Literal["auto", "memset", "copy"] = "auto"
    """How fresh card memory is made zero. ``auto``: by the runtime, and by copying where that fails."""
    execute: Literal["sync", "stream"] = "sync"
    """``stream`` hands the steps of a token over together and waits once, with a time limit."""
    mix: Literal["restart", "reboot", "free"] = "restart"
    """What to do before a picture model is loaded after a language model: some SDKs lose a card then."""
    post_first: bool = False
    """Load a language model's last graph before its layers."""
    reboot: Literal["auto", "api", "smi", "off"] = "auto"
    """How a lost card is booted anew: through the runtime, through axcl-smi, either, or not at all."""
    smi: Path | None = None
    """The tool ``axcl-smi``; looked for where its package puts it when unset."""
    smi_timeout_s: Seconds = 4.0
    """It is asked for the card's health at every poll, and ended when it has not answered by then."""

    @field_validator("library", "smi")
    @classmethod
    def _at_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()
