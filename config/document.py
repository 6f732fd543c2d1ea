"""``python -m config.document``: writes docs/settings.md from the settings themselves."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.settings import CHECKOUT, PREFIX, Settings

TARGET = CHECKOUT / "docs" / "settings.md"

_HEAD = """# Settings

<!-- Written by `python -m config.document` from config/settings.py and config/groups.py: change it there. -->

Every setting can stand in three places; the first one that has it wins:

1. an option of `./hearth up`: `--host --port --ollama-port --a1111-port --data-dir
   --models-dir --redis-url`;
2. an environment variable: `HEARTH_` and the name, groups joined by two underscores:
   `HEARTH_QUEUE__CHAT_CAP=8`;
3. `hearth.toml`: the file that `HEARTH_CONFIG` names, else the one in the working directory, else the one
   in the checkout.

```toml
port = 8851
models_dir = "/srv/models"

[queue]
chat_cap = 8
```

A name that is not listed here is refused, so that a misspelt one does not go unnoticed; so is a value out
of its range. Units are part of the names: `_s` seconds, `_ms` milliseconds, `_c` degrees Celsius, `_mib`
MiB.

Five more variables steer the start script and the command line and are no settings of the server:
`HEARTH_PYTHON` (the Python that makes the virtual environment), `HEARTH_VENV` (where that is),
`HEARTH_CONFIG`, `HEARTH_URL` (the server that `./hearth chat` and the others talk to), and
`HEARTH_CHAT_HISTORY` (`0`: `./hearth chat` keeps nothing of what is typed).
"""


def document() -> str:
    """The whole page."""
    groups = [(name, field) for name, field in Settings.model_fields.items() if _is_group(field)]
    sections = [_section("General", Settings, "")]
    sections += [_section(f"`[{name}]`", _group_of(field), f"{name}__") for name, field in groups]
    return "\n".join([_HEAD, *sections])


def _section(title: str, model: type[BaseModel], path: str) -> str:
    lines = [f"## {title}", ""]
    if path:
        lines += [inspect.cleandoc(model.__doc__ or ""), ""]
    lines += ["| setting | default | |", "|---|---|---|"]
    told = _sentences(model)
    for name, field in model.model_fields.items():
        if not _is_group(field):
            variable = f"{PREFIX}{path}{name}".upper()
            lines.append(f"| `{variable}` | {_default(field)} | {told[name]}{_range(field)} |")
    return "\n".join([*lines, ""])


def _sentences(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field. A field without one does not build."""
    tree = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.split()).replace("``", "`").replace("|", "\\|")
    return found


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "not set"
    if value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    if isinstance(value, Path):
        return f"`{value.relative_to(CHECKOUT)}` in the checkout"
    return f"`{value}`"


def _range(field: FieldInfo) -> str:
    """What values are taken, where the type alone does not say."""
    choices = [f"`{choice}`" for choice in _choices(field.annotation)]
    if choices:
        return f" One of {', '.join(choices)}."
    bounds = [bound for kind in _parts(field) for bound in _bounds(kind)]
    secret = " Secret: it is never shown." if SecretStr in get_args(field.annotation) else ""
    return (f" ({', '.join(bounds)})" if bounds else "") + secret


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _parts(field: FieldInfo) -> Iterator[Any]:
    """All metadata of the type, that of a nested ``Annotated`` included."""
    yield from field.metadata
    for part in get_args(field.annotation) if _is_union(field.annotation) else ():
        if get_origin(part) is Annotated:
            yield from get_args(part)[1:]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _bounds(kind: Any) -> Iterator[str]:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (value := getattr(kind, name, None)) is not None:
            yield f"{sign} {value:g}"


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _group_of(field: FieldInfo) -> type[BaseModel]:
    assert isinstance(field.annotation, type)
    return field.annotation


if __name__ == "__main__":
    TARGET.write_text(document(), "utf-8")
    sys.stdout.write(f"{TARGET.relative_to(CHECKOUT)} written\n")
