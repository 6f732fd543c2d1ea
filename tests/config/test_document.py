"""docs/settings.md says what the settings say."""

from __future__ import annotations

from pydantic import BaseModel

from config.document import TARGET, document
from config.settings import Settings


def test_the_page_is_current() -> None:
    assert TARGET.read_text("utf-8") == document(), "run: python -m config.document"


def test_every_setting_is_on_it() -> None:
    page = document()

    def names(model: type[BaseModel], path: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += names(kind, f"{path}{name}__")
            else:
                found.append(f"{path}{name}".upper())
        return found

    for name in names(Settings, "HEARTH_"):
        assert f"| `{name}` |" in page
