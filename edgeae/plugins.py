"""Plugins: providers that come as libraries of their own, and the hardware under them.

onnxruntime itself is passed in: `edgeae.runtime` alone imports it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeae.errors import ProviderError
from edgeae.providers import CPU, KNOWN, Choice, Provider

__all__ = ["Hardware", "ask_for", "bring", "first_line", "hardware", "register"]


@dataclass(frozen=True)
class Hardware:
    """A device that a provider can use: its `kind` is "cpu", "gpu" or "npu", or "" if untold.

    `source` is "built in" or "plugin". A simulator of an NPU is a "cpu".
    """

    provider: str
    source: str
    kind: str
    vendor: str


# Plugins in this process, by the name of their provider: onnxruntime takes each library once.
_registered: dict[str, Path] = {}
_registering = threading.Lock()


def register(onnxruntime: Any, name: str, library: str | Path) -> None:
    """Makes a plugin's provider known to onnxruntime, under onnxruntime's name for it.

    Those of installed packages that edgeae knows are found by themselves. Does nothing if the name
    is known already. Raises ProviderError if the library is not there or is none.
    """
    path = Path(library).absolute()
    with _registering:
        if name in onnxruntime.get_available_providers():
            return
        try:
            onnxruntime.register_execution_provider_library(name, str(path))
        except Exception as error:
            raise ProviderError(
                f"{path} is no plugin for {name}: {first_line(error)}",
                asked=[name],
                available=onnxruntime.get_available_providers(),
            ) from error
        _registered[name] = path


def bring(onnxruntime: Any, providers: Sequence[Provider] | None, device: str | None) -> None:
    """Registers the installed plugins that could be meant; the CPU costs nothing."""
    names = [p[0] if isinstance(p, tuple) and p else p for p in providers or ()]
    for known in KNOWN:
        kinds = {"auto": "gpu"}.get(device or "", device)
        if known.name in names or (kinds in known.options and kinds != "cpu"):
            _bring_plugin(onnxruntime, known.name, known.plugin)


def _bring_plugin(onnxruntime: Any, name: str, package: str | None) -> None:
    if package is None or name in onnxruntime.get_available_providers():
        return
    try:
        library = importlib.import_module(package).get_library_path()
    except ModuleNotFoundError:
        return
    register(onnxruntime, name, library)


def ask_for(onnxruntime: Any, options: Any, providers: Sequence[Choice]) -> list[Any] | None:
    """What to pass as `providers`, or None where the session options hold the wish.

    A plugin's provider that is passed by name is dropped without a word: it goes by its devices.
    """
    devices = {choice.name: _plugin_devices(onnxruntime, choice) for choice in providers}
    if not any(devices.values()):
        return [(c.name, dict(c.options)) if c.options else c.name for c in providers]
    for choice in providers:
        if devices[choice.name]:
            wanted = dict(choice.options) or _default_options(choice.name)
            options.add_provider_for_devices(devices[choice.name][:1], wanted)
        elif choice.name != CPU:
            options.add_provider(choice.name, dict(choice.options))
    return None


def _plugin_devices(onnxruntime: Any, choice: Choice) -> list[Any]:
    """The hardware under a plugin's provider, what was asked for first; none if it is built in."""
    if choice.name not in _registered:
        return []
    order = [choice.kind, "npu", "gpu", "cpu"]
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == choice.name]
    return sorted(found, key=lambda d: order.index(d.device.type.name.lower()))


def _default_options(name: str) -> dict[str, str]:
    """Options without which a provider does not know what to do, its fastest hardware first."""
    for known in KNOWN:
        if known.name == name:
            return dict(next(iter(known.options.values())))
    return {}


def hardware(onnxruntime: Any) -> list[Hardware]:
    """Every provider and its devices, installed plugins included, as onnxruntime tells them.

    A provider that is built in often tells no device. That a provider is here does not mean that
    it runs a given graph: `Graph.report` says that.
    """
    for known in KNOWN:
        _bring_plugin(onnxruntime, known.name, known.plugin)
    found = []
    for name in onnxruntime.get_available_providers():
        source = "plugin" if name in _registered else "built in"
        devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == name]
        found += [
            Hardware(name, source, d.device.type.name.lower(), d.device.vendor) for d in devices
        ] or [Hardware(name, source, "", "")]
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
