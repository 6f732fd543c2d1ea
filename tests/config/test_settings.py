"""Settings are read from three places, checked when they are read, and never tell their secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import CHECKOUT, SettingsError, config_file, read_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HEARTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_defaults_are_safe() -> None:
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8850)
    assert settings.data_dir == CHECKOUT / "data"
    assert settings.packages_dir == settings.data_dir / "models"


def test_what_is_kept_and_how_much_is_admitted() -> None:
    queue = read_settings().queue
    assert (queue.chat_cap, queue.image_cap, queue.batch_cap) == (32, 64, 5000)
    assert (queue.retention_s, queue.retention_bytes) == (7 * 24 * 3600, 5_000_000_000)
    assert (queue.journal_ttl_s, queue.max_strikes) == (3600, 3)


def test_arguments_come_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "hearth.toml", "port = 1\nflower_port = 1\nlog_level = 'debug'\n")
    monkeypatch.setenv("HEARTH_PORT", "2")
    monkeypatch.setenv("HEARTH_FLOWER_PORT", "2")
    settings = read_settings(port=3)
    assert (settings.port, settings.flower_port, settings.log_level) == (3, 2, "debug")


def test_groups_are_reached_by_two_underscores_and_by_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "hearth.toml", "[thermal]\nhold_c = 85\n")
    monkeypatch.setenv("HEARTH_QUEUE__CHAT_CAP", "8")
    settings = read_settings()
    assert settings.queue.chat_cap == 8
    assert settings.thermal.hold_c == 85
    assert settings.thermal.resume_c == 70  # what the file does not say keeps its default


def test_the_named_file_comes_before_the_one_that_lies_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "hearth.toml", "port = 1\n")
    monkeypatch.setenv("HEARTH_CONFIG", str(write(tmp_path / "other.toml", "port = 2\n")))
    assert read_settings().port == 2


def test_a_named_file_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_CONFIG", "/nowhere.toml")
    with pytest.raises(SettingsError, match=r"/nowhere\.toml"):
        read_settings()


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert config_file() in (None, CHECKOUT / "hearth.toml")


@pytest.mark.parametrize("name", ["HEARTH_PROT", "HEARTH_QUEUES__CHAT_CAP"])
def test_unknown_variables_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=name):
        read_settings()


def test_unknown_names_in_groups_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEARTH_QUEUE__CHAT_CAPS", "1")
    with pytest.raises(SettingsError, match=r"queue\.chat_caps"):
        read_settings()


@pytest.mark.parametrize("text", ["prot = 1", "[queue]\nchat_caps = 1", "port = "])
def test_faults_in_the_file_are_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "hearth.toml", text)
    with pytest.raises(SettingsError):
        read_settings()


@pytest.mark.parametrize("name", ["HEARTH_PYTHON", "HEARTH_VENV", "HEARTH_URL"])
def test_variables_of_the_start_script_are_no_settings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEARTH_PORT", "70000"),
        ("HEARTH_PORT", "http"),
        ("HEARTH_QUEUE__CHAT_CAP", "0"),
        ("HEARTH_QUEUE__LEASE_S", "0"),
        ("HEARTH_CARD", "imaginary"),
        ("HEARTH_THERMAL__RESUME_C", "80"),
        ("HEARTH_THERMAL__HOLD_C", "200"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        read_settings()
    assert "\n" not in str(refusal.value)
    assert name.removeprefix("HEARTH_").lower().split("__")[0] in str(refusal.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "hearth.local"])  # noqa: S104
def test_beyond_loopback_a_key_is_demanded(host: str) -> None:
    with pytest.raises(SettingsError, match="HEARTH_API_KEY"):
        read_settings(host=host)
    assert read_settings(host=host, api_key="k").host == host


@pytest.mark.parametrize(
    "host", ["", "0", "[::]", "::ffff:192.168.1.2", "127.0.0.1.nip.io", "127.lan", "localhost.lan"]
)
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    with pytest.raises(SettingsError, match="reachable from other machines"):
        read_settings(host=host)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("hosts", ["http://hearth.local"], "hearth.local"),
        ("hosts", ["hearth.local/"], "no name of a host"),
        ("cors_origins", ["http://localhost:3000/"], "no path"),
        ("cors_origins", ["chat.home.arpa"], "no origin"),
        ("cors_origins", ["*"], "make a key first"),
    ],
)
def test_names_of_hosts_and_pages_are_looked_at(name: str, value: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_settings(**{name: value})


def test_names_are_compared_in_small_letters() -> None:
    read = read_settings(hosts=["Hearth.Local", "*.Home.arpa"], cors_origins=["HTTP://Localhost:3000"])
    assert (read.hosts, read.cors_origins) == (("hearth.local", "*.home.arpa"), ("http://localhost:3000",))
    assert read_settings(cors_origins=["*"], api_key="k").cors_origins == ("*",)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_on_loopback_none_is(host: str) -> None:
    assert read_settings(host=host).api_key is None


def test_secrets_are_never_shown() -> None:
    settings = read_settings(api_key="verysecret", redis_url="redis://me:verysecret@h/0")
    assert "verysecret" not in repr(settings)
    assert "verysecret" not in json.dumps(settings.redacted())


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", "")
    assert read_settings().redis_url is None


def test_relative_paths_and_homes_are_made_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = read_settings(data_dir="here", models_dir="~/models")
    assert settings.data_dir == tmp_path / "here"
    assert settings.models_dir == tmp_path / "home/models"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings().port = 1
