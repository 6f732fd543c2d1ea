"""What the training scripts share: rate, running average, clock, and going on after an interruption."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_WARM_UP = 100
"""Steps in which the rate rises."""
_SAVE_EVERY_S = 120.0


class Training:
    """A network that learns for ``minutes``: at full ``rate`` for the first half, then at one that falls.

    ``path`` holds everything that is needed to go on, and the running average of the weights, which is what
    is used in the end; ``keep`` is how much of the average stays at each step.
    """

    def __init__(self, network: Any, path: Path, *, minutes: float, rate: float, keep: float) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self._path, self._limit_s, self._rate, self._keep = path, minutes * 60, rate, keep
        self._learned = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._learned, lr=rate, weight_decay=0.01, betas=(0.9, 0.99))
        self._average = {name: value.clone() for name, value in network.state_dict().items()}
        self.step, self._spent_s = 0, 0.0
        if path.exists():
            self._go_on(torch.load(path))

    @property
    def spent_s(self) -> float:
        """Over all runs so far."""
        return self._spent_s

    def steps(self) -> Iterator[int]:
        """Numbers of steps until the time is over; each is to call ``learn`` once."""
        before, began = self._spent_s, time.monotonic()
        saved_at = began
        while (passed := time.monotonic() - began) < self._limit_s:
            self._spent_s = before + passed
            self._set_rate(passed / self._limit_s)
            self.step += 1
            yield self.step
            if time.monotonic() - saved_at > _SAVE_EVERY_S:
                self._save()
                saved_at = time.monotonic()
        self._save()

    def learn(self, loss: Tensor) -> None:
        """One step down ``loss``."""
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._learned, 1.0)
        self._optimizer.step()
        keep = min(self._keep, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self._average[name].lerp_(value, 1 - keep)

    def _set_rate(self, share: float) -> None:
        rate = self._rate * min(1.0, self.step / _WARM_UP) * max(min(1.0, 2 * (1 - share)), 0.02)
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _go_on(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average, self.step, self._spent_s = state["average"], state["step"], state["spent_s"]

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
            "step": self.step,
            "spent_s": self._spent_s,
        }
        new = self._path.with_suffix(".new")
        torch.save(state, new)
        new.replace(self._path)  # whole or not at all
