"""A training run described in TOML, read into frozen dataclasses.

An unknown key, a missing key without default or a value of the wrong type is a `ConfigError` that
names the place, so that a misspelt option never trains silently with its default.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.recipes import RECIPES, recipe_class

PRECISIONS = ("auto", "float32", "bfloat16")
ALGORITHMS = ("adamw", "muon", "soap")


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and what is expected."""


def _require(section: Optimize | Validate, **least: float) -> None:
    for key, value in least.items():
        if getattr(section, key) < value:
            where = f"{type(section).__name__.lower()}.{key}"
            raise ConfigError(f"{where} is {getattr(section, key)}, expected at least {value}")


@dataclass(frozen=True)
class Optimize:
    """The optimizer and its schedule: linear warm-up, then a cosine down to `final_ratio`.

    With `decay_steps` the rate is constant instead and falls linearly over the last so many steps,
    so that a run can go on from before they began, with more steps. `precision` is that of the
    network's products: "float32", "bfloat16", or "auto" for whichever is measured to be faster on
    this machine. Parameters whose names begin with one of `freeze`, such as "encoder.", stay as
    they are.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 200
    final_ratio: float = 0.02
    slow_ratio: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "auto"
    algorithm: str = "adamw"
    decay_steps: int = 0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self, steps=1, batch_size=1, warmup_steps=0, decay_steps=0)
        if self.algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            raise ConfigError(f"optimize.algorithm is {self.algorithm!r}, expected one of {known}")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"optimize.precision is {self.precision!r}, expected {', '.join(PRECISIONS)}"
            )

    @staticmethod
    def modern(raw: dict[str, Any]) -> dict[str, Any]:
        """Keys as they are now, from those of checkpoints up to 0.1.0: `bfloat16` was a bool."""
        if not isinstance(raw.get("bfloat16"), bool) or "precision" in raw:
            return raw
        kept = {key: value for key, value in raw.items() if key != "bfloat16"}
        return {**kept, "precision": "bfloat16" if raw["bfloat16"] else "float32"}


@dataclass(frozen=True)
class Validate:
    """When to validate: every so many steps and at least every so many minutes; and after how many
    validations without a better score to stop."""

    every_steps: int = 1000
    every_minutes: float = 10.0
    patience: int = 20

    def __post_init__(self) -> None:
        _require(self, every_steps=1, every_minutes=0, patience=1)


@dataclass(frozen=True)
class Config:
    """One training run; `network`, `data` and `loss` are dataclasses of the task's recipe."""

    name: str
    network: Any
    data: Any
    loss: Any
    optimize: Optimize
    task: str
    validate: Validate = Validate()
    seed: int = 0


def read_config(file: Path) -> Config:
    """The run that a TOML file describes; its ranges for `python -m train.search` are left out.

    Raises:
        ConfigError: the file is unreadable, not TOML, or says something that no run understands.
    """
    raw = read_toml(file)
    raw.pop("search", None)
    return config_from_dict(raw)


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file says, unchecked. Raises ConfigError if it is unreadable or no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def config_from_dict(raw: dict[str, Any]) -> Config:
    """The run that a nested dict describes; also reads back what a checkpoint carries."""
    task = raw.get("task")
    if task not in RECIPES:
        raise ConfigError(f"task is {task!r}, expected one of {', '.join(sorted(RECIPES))}")
    sections = recipe_class(task).sections
    return typing.cast(Config, _build(Config, raw, where="", kinds=sections))


def _build(
    cls: type, raw: Any, *, where: str, kinds: typing.Mapping[str, type] | None = None
) -> Any:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where.rstrip('.') or 'the config'} is {raw!r}, expected a table")
    if hasattr(cls, "modern"):
        raw = cls.modern(raw)
    hints = {**typing.get_type_hints(cls), **(kinds or {})}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in raw:
        if key not in fields:
            raise ConfigError(f"unknown key {where}{key}; known: {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name in raw:
            values[name] = _value(hints[name], raw[name], where=f"{where}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key {where}{name}")
    return cls(**values)


def _value(kind: Any, raw: Any, *, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), raw, where=f"{where}.")
    if typing.get_origin(kind) is tuple:
        if not isinstance(raw, list | tuple):
            raise ConfigError(f"{where} is {raw!r}, expected a list")
        inner = typing.get_args(kind)[0]
        return tuple(_value(inner, item, where=f"{where}[{i}]") for i, item in enumerate(raw))
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{where}: config fields are plain types, not unions")
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise ConfigError(f"{where} is {raw!r}, expected {kind.__name__}")
    return raw
