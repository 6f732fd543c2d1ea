"""What a package's directory makes of a model's name."""

from __future__ import annotations

import re


def slug(name: str) -> str:
    """``name`` as a model id: lower case, only ``a-z 0-9 . _ -``, beginning with a letter or digit."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"
