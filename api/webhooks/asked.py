"""What a request for jobs says of webhooks: read, checked, and made an announcement."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from api.errors import Refusal
from api.openai.faults import wrong_type
from api.webhooks.targets import Refused, Targets
from config.settings import Settings
from tasks.webhooks.words import JOB_EVENTS, Announcement

_NAMES = ("url", "events")
WebhookField = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["url"],
                    "properties": {
                        "url": {"type": "string"},
                        "events": {"type": "array", "items": {"enum": list(JOB_EVENTS)}, "minItems": 1},
                    },
                    "additionalProperties": False,
                },
                {"type": "null"},
            ]
        }
    ),
    Field(
        description="An address that is told when the job has ended: a URL, or `{url, events}`. Signed by "
        "Standard Webhooks; allowed by the settings `webhooks.*` only."
    ),
]


def announcement(value: Any, settings: Settings) -> Announcement:
    """What the end of a native job is told as, and to ``value`` beside the endpoints that are registered.

    Raises:
        Refusal: ``webhook`` is at fault, or may not go there.
    """
    if value is None:
        return Announcement("job")
    if isinstance(value, str):
        value, place = {"url": value}, "webhook"
    elif isinstance(value, dict):
        place = "webhook.url"
    else:
        raise wrong_type("webhook", "a URL, or an object with 'url'", value)
    for name in value:
        if name not in _NAMES:
            raise Refusal(
                "invalid_value", f"{name[:60]!a} is no field of 'webhook': it knows url and events", "webhook"
            )
    if not isinstance(value.get("url"), str):
        raise Refusal("missing_required_parameter", "'webhook.url' should be an address", "webhook.url")
    events = _events(value.get("events"))
    return Announcement("job", url=allowed(value["url"], place, settings), events=events)


def allowed(address: str, place: str, settings: Settings) -> str:
    """``address`` as it is, if a webhook may go there. Raises Refusal, naming the field and the setting."""
    try:
        Targets(settings.webhooks).checked(address)
    except Refused as refused:
        raise Refusal("webhook_not_allowed", f"'{place}' {refused}", place) from None
    return address


def _events(value: Any) -> tuple[str, ...]:
    if value is None:
        return JOB_EVENTS
    return checked_events(value, "webhook.events", JOB_EVENTS)


def checked_events(value: Any, place: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """A list of events, each once. Raises Refusal, naming the one that is not ``known``."""
    if not isinstance(value, list):
        raise wrong_type(place, "a list of events", value)
    if not value:
        raise Refusal("invalid_value", f"'{place}' should name at least one event", place)
    for index, each in enumerate(value):
        if each not in known:
            where = f"{place}[{index}]"
            raise Refusal("invalid_value", f"'{where}' should be one of {', '.join(known)}", where)
    return tuple(dict.fromkeys(value))
