"""The shapes of registered endpoints, as OpenAI's API has them (openai-python 3.54, ``types/webhooks``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.webhooks.words import EVENTS

_EVENTS = f"Of {', '.join(f'`{event}`' for event in EVENTS)}."


class EndpointRequest(BaseModel):
    """An address that is to hear of events."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, Field(description="Allowed by the settings `webhooks.*` only.")]
    event_types: Annotated[list[Any] | None, Field(description=_EVENTS + " Left out: all of them.")] = None
    name: Annotated[str | None, Field(max_length=64, description="For people; default its origin.")] = None
    key: Annotated[
        str | None,
        Field(description="Name or id of the API key whose events these are, for `admin` keys."),
    ] = None


class EndpointChange(BaseModel):
    """What is to be different; what is left out stays. An endpoint that was gone is told again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str | None = None
    event_types: list[Any] | None = None
    name: Annotated[str | None, Field(max_length=64)] = None


class RotateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    keep_old_secret_active_for_24_hours: Annotated[
        bool, Field(description="Deliveries carry a signature of either meanwhile.")
    ] = False


class TrialRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    event_type: Annotated[str, Field(description="What the sample says has happened.")]


class EndpointOut(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: Annotated[int, Field(description="Seconds since the epoch.")]
    updated_at: int
    signing_secret_hint: Annotated[str, Field(description="The end of the secret.")]
    disabled: Annotated[
        bool, Field(description="The receiver has answered 410 Gone: nothing is sent until it is changed.")
    ]


class EndpointWithSecret(EndpointOut):
    signing_secret: Annotated[str, Field(description="`whsec_…`, shown this once.")]


class EndpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EndpointOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EndpointDeleted(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class TrialOut(BaseModel):
    """What the receiver answered to a sample; whether that is well is for who looks at ``status_code``."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class SecretOut(BaseModel):
    """What is signed with that goes to addresses which jobs name themselves."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str
