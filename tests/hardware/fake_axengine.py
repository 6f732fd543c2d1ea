"""A package with the public shape of ``axengine`` 0.1.3, its faults included, over the virtual card's parts.

Written from what its documentation and its users tell of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from hardware.errors import GraphRejected
from hardware.virtual.format import read_groups
from hardware.virtual.graph import bind
from hardware.virtual.session import open_session, resolve_groups

PROVIDER = "AXCLRTExecutionProvider"


class NodeArg:
    def __init__(self, name: str, dtype: Any, shape: Sequence[int]) -> None:
        self.name, self.dtype, self.shape = name, dtype, list(shape)


class Inner:
    """What a session keeps for itself; the module's list keeps it alive for ever."""

    def __init__(self, path: str) -> None:
        self.loaded = True
        self.file = read_groups(Path(path))
        self.session = open_session(Path(path), 1)
        self.feeds = resolve_groups(Path(path), self.file, self.session)

    def _unload(self) -> None:
        self.loaded = False


class InferenceSession:
    devices: ClassVar[list[int]] = []

    def __init__(
        self,
        path: str,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
    ) -> None:
        path.encode()  # a Path has none
        print(f"[INFO] Using provider: {PROVIDER}")  # noqa: T201  # as it does
        if not isinstance(providers, list):
            raise ValueError("No available provider")
        number = 0
        if provider_options and not isinstance(providers[0], tuple):
            number = provider_options[0]["device_id"]
        self.devices.append(number)
        try:
            self._sess = Inner(path)
        except GraphRejected:
            raise RuntimeError("axclrtEngineLoadFromFile failed.") from None
        _module._all_model_instances.append(self._sess)

    def get_inputs(self, shape_group: int = 0) -> list[NodeArg]:
        return self._nodes(shape_group, "inputs")

    def get_outputs(self, shape_group: int = 0) -> list[NodeArg]:
        return self._nodes(shape_group, "outputs")

    def _nodes(self, group: int, side: str) -> list[NodeArg]:
        specs = getattr(self._sess.file.groups[group], side)
        return [NodeArg(spec.name, spec.numpy_dtype, spec.shape) for spec in specs]

    def run(
        self, output_names: Any, input_feed: dict[str, Any], run_options: Any = None, shape_group: int = 0
    ) -> list[Any]:
        if _module.fails:
            raise RuntimeError(f"axclrtEngineExecute failed 0x{_module.fails:08x}")
        if output_names is not None:
            raise ValueError("'sum' is not in list")
        assert self._sess.loaded
        binding = self._sess.session.io_binding()
        made = []
        for feed in self._sess.feeds[shape_group]:
            if feed.is_output:
                made.append(np.zeros(feed.spec.shape, feed.spec.numpy_dtype))
                bind(binding, feed, made[-1].ctypes.data)
            else:
                given = input_feed[feed.spec.name]
                assert list(given.shape) == list(feed.spec.shape)
                assert given.dtype == feed.spec.numpy_dtype
                # As they lie in memory, whatever their strides.
                bind(binding, feed, given.ctypes.data)
        self._sess.session.run_with_iobinding(binding)
        return made


class Axengine(ModuleType):
    """The module, as ``sys.modules`` has it."""

    InferenceSession = InferenceSession
    _all_model_instances: list[Inner]
    fails: int

    def get_available_providers(self) -> list[str]:
        return [PROVIDER]


_module: Any = None


def install(monkeypatch: Any) -> Any:
    """Put it where ``import axengine`` finds it."""
    global _module
    _module = Axengine("axengine")
    _module._all_model_instances, _module.fails = [], 0
    _module.__spec__ = object()
    InferenceSession.devices = []
    monkeypatch.setitem(sys.modules, "axengine", _module)
    # Where its sessions look for their list: the module that defines them.
    monkeypatch.setattr(
        sys.modules[__name__], "_all_model_instances", _module._all_model_instances, raising=False
    )
    return _module
