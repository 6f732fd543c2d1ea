"""All settings: those that stand in no group, and where their values come from.

Read from, in this order of precedence: arguments of ``hearth up`` (passed on as environment), environment
variables ``HEARTH_*`` (nested ones with ``__``: ``HEARTH_QUEUE__CHAT_CAP=8``), and ``hearth.toml`` at
``HEARTH_CONFIG``, in the working directory, or in the checkout.
"""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from config.groups import (
    AxclSettings,
    HostName,
    LimitSettings,
    ModelSettings,
    Origin,
    QueueSettings,
    RateSettings,
    RecoverySettings,
    ThermalSettings,
    VirtualCardSettings,
    WebhookSettings,
    WorkerSettings,
)
from config.keyring import FILE as KEYS_FILE

CHECKOUT = Path(__file__).resolve().parent.parent
PREFIX = "HEARTH_"
_NOT_SETTINGS = frozenset(
    {"HEARTH_CHAT_HISTORY", "HEARTH_CONFIG", "HEARTH_PYTHON", "HEARTH_VENV", "HEARTH_URL"}
)
"""Variables of ours that steer the start script and the command line, not the server."""


class SettingsError(Exception):
    """A setting is unknown or out of range. The message names it and says what would do."""


class Settings(BaseSettings):
    """The whole configuration of one Hearth. Frozen; unknown names are refused."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    """Address the API listens on. Beyond loopback a key is demanded (``api_key``, or ``hearth keys add``)."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8850
    """Port of the API; 0 picks a free one."""
    ollama_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """A second port of the same API; 11434 is where Ollama's clients look of their own accord."""
    a1111_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """One more; 7860 is where AUTOMATIC1111's clients look."""
    hosts: tuple[HostName, ...] = ()
    """Further names this server is called by, as ``hearth.local`` or ``*.home.arpa``; requests to any
    other are refused. On loopback its own names are always among them; beyond it all names will do until one
    is set."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages that may ask from a browser, as ``https://chat.home.arpa`` or ``http://localhost:3000``;
    ``*`` is every page of the web and wants a key. None: a browser lets no page but our own ask."""
    api_key: SecretStr | None = None
    """A key that may do everything, as ``Authorization: Bearer …``; more are made with ``hearth keys``."""
    data_dir: Path = CHECKOUT / "data"
    """Where Redis, results, the virtual card's state, passwords and logs live."""
    models_dir: Path | None = None
    """Where model packages are looked for; default ``<data_dir>/models``."""
    demo_models: bool = True
    """Offer the demo models when the card is virtual."""
    redis_url: SecretStr | None = None
    """An existing Redis (``redis://``, ``rediss://``, ``unix://``); unset, ``hearth up`` runs its own."""
    card: Annotated[str, Field(pattern=r"^(auto|virtual|(axcl|axengine)(:[0-9]{1,3})?)$")] = "auto"
    """Which card to use: ``axcl`` (behind PCIe; ``axcl:1`` is the second one), ``axengine`` (through the
    vendor's Python package, on an AX650N that runs Hearth itself), ``virtual``, or ``auto``: a real one, else
    the virtual one."""
    flower: bool = True
    """Run the dashboard (loopback only)."""
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    """Port of the dashboard; 0 picks a free one."""
    axengine_wheel: Path | None = None
    """Path of the vendor's axengine wheel, which is on no index; installed into the environment when set."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much the processes say."""

    queue: QueueSettings = QueueSettings()
    limits: LimitSettings = LimitSettings()
    rates: RateSettings = RateSettings()
    webhooks: WebhookSettings = WebhookSettings()
    thermal: ThermalSettings = ThermalSettings()
    recovery: RecoverySettings = RecoverySettings()
    models: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    axcl: AxclSettings = AxclSettings()
    virtual_card: VirtualCardSettings = VirtualCardSettings()

    @property
    def ports(self) -> dict[str, int]:
        """Every port the API listens on, by the name of its setting; ``port`` comes first."""
        asked = {"port": self.port, "ollama_port": self.ollama_port, "a1111_port": self.a1111_port}
        return {name: port for name, port in asked.items() if port is not None}

    @property
    def packages_dir(self) -> Path:
        """The directory that model packages are looked for in."""
        return self.models_dir if self.models_dir is not None else self.data_dir / "models"

    @property
    def card_state_dir(self) -> Path:
        """Where cards keep their locks, and a virtual one its state."""
        return self.data_dir / "card"

    @field_validator("data_dir", "models_dir", "axengine_wheel")
    @classmethod
    def _at_home(cls, path: Path | None) -> Path | None:
        """``~`` is a home directory, and what is relative belongs to the directory the process started in."""
        return None if path is None else path.expanduser().absolute()

    @model_validator(mode="after")
    def _ports_apart(self) -> Settings:
        seen: dict[int, str] = {}
        for name, port in self.ports.items():
            if port and port in seen:
                raise ValueError(f"{name} and {seen[port]} are both {port}: leave one out")
            seen[port] = name
        return self

    @model_validator(mode="after")
    def _key_where_strangers_come(self) -> Settings:
        if self.api_key is not None or (self.data_dir / KEYS_FILE).is_file():
            return self
        key = "make a key first (`hearth keys add NAME`, or HEARTH_API_KEY)"
        if not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is reachable from other machines: {key}, or listen on 127.0.0.1"
            )
        if "*" in self.cors_origins:
            raise ValueError(f"cors_origins '*' lets every web page ask: {key}, or name the pages")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = config_file()
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, file)) if file else sources

    def redacted(self) -> dict[str, Any]:
        """What may be printed: secrets and the Redis address show as asterisks."""
        return self.model_dump(mode="json")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there. A name that is not sure to is not."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def config_file() -> Path | None:
    """The file in force: ``HEARTH_CONFIG``, else ``hearth.toml`` here or in the checkout, or none."""
    named = os.environ.get("HEARTH_CONFIG")
    if named:
        return Path(named)
    places = (Path("hearth.toml"), CHECKOUT / "hearth.toml")
    return next((place for place in places if place.is_file()), None)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: a name is unknown or a value out of range; one line per fault.
    """
    return read_settings()


def read_settings(**overrides: Any) -> Settings:
    """Read the settings anew, ``overrides`` first. Raises SettingsError."""
    file = config_file()
    if file is not None and not file.is_file():
        raise SettingsError(f"HEARTH_CONFIG names {file}, which is not a file")
    unknown = sorted(_unknown_variables())
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; the settings are listed in docs/settings.md")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(fault) for fault in error.errors())) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from None


def _unknown_variables() -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    mine = (name for name in os.environ if name.startswith(PREFIX) and name not in _NOT_SETTINGS)
    return [name for name in mine if name.upper().split("__")[0] not in known]


def _sentence(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
