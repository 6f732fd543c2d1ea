"""``python -m tests.worker.fake_npu``: the real worker-npu with the counting models."""

from __future__ import annotations

from functools import partial

from config.settings import settings
from tests.worker.fake_models import fake_models
from worker import logs, npu
from worker.boot import boot

if __name__ == "__main__":
    logs.setup("debug")
    npu.run(settings(), partial(boot, models=fake_models))
