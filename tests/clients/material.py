"""What both LangChain clients are asked for: a form and a tool."""

from __future__ import annotations

import pydantic
from langchain_core.tools import tool


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


ADA = Person(name="Ada", age=36)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
