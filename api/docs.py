"""``/docs``: the OpenAPI document as one page that needs nothing from elsewhere.

The usual pages fetch megabytes of script from a content network; this server stands in rooms without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin-top:3rem;border-bottom:1px solid #ccc}h3{margin:2rem 0 .3rem;font-family:monospace;font-size:1rem}
h3 b{background:#c2410c;color:#fff;padding:.1rem .5rem;border-radius:.3rem;margin-right:.5rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td{border-top:1px solid #ddd;padding:.25rem .6rem .25rem 0;vertical-align:top}
td:first-child,code{font-family:monospace;font-size:.9em}td:nth-child(2){color:#666;white-space:nowrap}
summary{cursor:pointer;color:#c2410c}a{color:#c2410c}
@media(prefers-color-scheme:dark){body{background:#181614;color:#ddd}h2,td{border-color:#444}td:nth-child(2){color:#999}}"""
_METHODS = ("get", "post", "put", "patch", "delete")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/docs")
async def docs(request: Request) -> Response:
    page = "".join(_page(request.app.openapi()))
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{title}</h1>'
    yield _prose(info.get("description", ""))
    yield '<p>The same for programs: <a href="/openapi.json">openapi.json</a></p>'
    last_tag = ""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                tag = operation.get("tags", [""])[0]
                if tag != last_tag:
                    yield f"<h2>{escape(tag)}</h2>"
                    last_tag = tag
                yield from _operation(method, path, operation)
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>{_prose(schema.get("description", ""))}'
        yield from _fields(schema)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h3><b>{method.upper()}</b>{escape(path)}</h3>{_prose(operation.get('description', ''))}"
    rows = [
        (each["name"], each["schema"], each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        forms = operation["requestBody"]["content"]
        if "application/json" not in forms:
            rows += _form(forms["multipart/form-data"]["schema"])
        else:
            rows.append(("body", forms["application/json"]["schema"], ""))
        if len(forms) > 1:
            rows.append(("or a form", {"type": "object"}, "With the same fields; pictures are files."))
    yield from _table((name, _type(schema), _inline(note)) for name, schema, note in rows)
    yield "<details><summary>Answers</summary>"
    answers = (
        (status, _answer_type(answer), _inline(answer["description"]))
        for status, answer in operation["responses"].items()
    )
    yield from _table(answers)
    yield "</details>"


def _form(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    for name, field in schema["properties"].items():
        yield name, field, f"Of the form. {_note(field)}"


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    yield from _table(
        (name, _type(field) + (" *" if name in required else ""), _inline(_note(field)))
        for name, field in schema.get("properties", {}).items()
    )


def _note(field: dict[str, Any]) -> str:
    limits = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
    forms = [field, *field.get("anyOf", ())]
    told = [f"{words} {form[name]}" for form in forms for name, words in limits.items() if name in form]
    return " ".join([field.get("description", ""), *([f"({', '.join(told)})"] if told else [])])


def _table(rows: Any) -> Iterator[str]:
    cells = [f"<tr><td>{escape(name)}<td>{kind}<td>{note}" for name, kind, note in rows]
    if cells:
        yield f"<table>{''.join(cells)}</table>"


def _answer_type(answer: dict[str, Any]) -> str:
    return " or ".join(
        _type(content["schema"]) if "schema" in content else escape(kind)
        for kind, content in answer.get("content", {}).items()
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(form) for form in schema[union])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if "const" in schema:
        return escape(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))


def _prose(text: str) -> str:
    return "".join(
        f"<p>{_inline(paragraph)}</p>" for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()
    )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
