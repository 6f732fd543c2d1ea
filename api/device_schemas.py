"""The shapes of a card's thresholds and of its history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.jobs.schemas import Seconds

Celsius = Annotated[float, Field(ge=-20, le=120, allow_inf_nan=False)]


class ThresholdsPatch(BaseModel):
    """What is to change. null takes a change back; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ease_c: Annotated[Celsius | None, Field(description="From here on rests come between steps.")] = None
    hold_c: Annotated[Celsius | None, Field(description="Here the queue pauses.")] = None
    resume_c: Annotated[Celsius | None, Field(description="Here it goes on.")] = None
    unload_c: Annotated[Celsius | None, Field(description="Here models are unloaded as well.")] = None
    least_duty: Annotated[
        float | None,
        Field(ge=0.05, le=1, allow_inf_nan=False, description="The share of the time a card still works."),
    ] = None
    missing_polls: Annotated[
        int | None, Field(ge=1, description="So many polls without a reading hold the card.")
    ] = None
    hold_without_readings: Annotated[
        bool | None, Field(description="Off only for a card whose sensor is known to be broken.")
    ] = None


class ThresholdValues(BaseModel):
    ease_c: float
    hold_c: float
    resume_c: float
    unload_c: float
    least_duty: float
    missing_polls: int
    hold_without_readings: bool


class ThresholdsOut(ThresholdValues):
    """Those in force, and what they would be without the changes."""

    object: Literal["thresholds"] = "thresholds"
    changed: Annotated[list[str], Field(description="Which of them were changed while Hearth ran.")]
    configured: ThresholdValues


class HistoryPoint(BaseModel):
    """One minute. What was not read is null."""

    at: Seconds
    temperature_c: Annotated[float | None, Field(description="The mean.")]
    max_c: float | None
    npu_percent: float | None
    memory_free_bytes: int | None
    duty: Annotated[float, Field(description="The share of the time the card might work; 0: it was held.")]
    missing: Annotated[int, Field(description="Polls without a reading.")]


class History(BaseModel):
    object: Literal["list"] = "list"
    card: str
    data: list[HistoryPoint]
