"""A picture model's SHA-256: read once from its files, then remembered beside the data."""

from __future__ import annotations

import logging
from pathlib import Path

from models.diffusion.package import Variant
from models.remembered import fingerprint, recall, remember

log = logging.getLogger("hearth.catalog")

HASHES = "hashes.json"
"""Under the data directory: the SHA-256 of models by what can be seen of their files without reading them."""

READ_AT_ONCE_BYTES = 64 * 2**20
"""So much is read for a mere look at a package; a larger model is hashed when it is loaded."""


def known(variant: Variant, data_dir: Path | None) -> str | None:
    """The model's SHA-256, if it was read before or is quickly read."""
    remembered = recall(data_dir / HASHES).get(_key(variant)) if data_dir else None
    if isinstance(remembered, str):
        return remembered
    return variant.sha256() if variant.unet.stat().st_size <= READ_AT_ONCE_BYTES else None


def read(variant: Variant, data_dir: Path) -> str:
    """The model's SHA-256; what took seconds to read is remembered."""
    found = known(variant, data_dir)
    if found is None:
        found = variant.sha256()
        try:
            remember(data_dir / HASHES, _key(variant), found)
        except OSError as error:
            log.warning("could not remember the hash of %s: %s", variant.unet, error)
    return found


def _key(variant: Variant) -> str:
    files = [path for path in (variant.unet, variant.time_table, variant.time_mlp) if path]
    return fingerprint(files, str(variant.directory))
