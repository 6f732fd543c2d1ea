"""Batches that come and go as files: reading them, writing them, bringing them to their ends."""
