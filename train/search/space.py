"""What a search may choose: the ranges in a config, and the config of a choice."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from train.config import Config, ConfigError, config_from_dict

# Steps of a trial, unless the config says otherwise, and validations on the way, at which a trial
# that falls behind is given up.
TRIAL_STEPS, TRIAL_VALIDATIONS = 300, 4


class Chooser(Protocol):
    """What draws values: an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: list[str]) -> str: ...


@dataclass(frozen=True)
class Range:
    """Values of one key of the config: `low` to `high`, whole if both are, or one of `choices`."""

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def draw(self, name: str, chooser: Chooser) -> Any:
        """A value of this range."""
        if self.choices:
            # Optuna's choices are plain values; lists go through their text.
            texts = [json.dumps(choice) for choice in self.choices]
            return json.loads(chooser.suggest_categorical(name, texts))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return chooser.suggest_int(name, self.low, self.high, log=self.log)
        return chooser.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """A config as TOML says it, what of it is searched over, and how long a trial trains."""

    raw: Mapping[str, Any]
    ranges: Mapping[str, Range]
    steps: int

    def draw(self, chooser: Chooser) -> dict[str, Any]:
        """Values by key, such as "network.latent"."""
        return {name: one.draw(name, chooser) for name, one in self.ranges.items()}

    def config(self, values: Mapping[str, Any]) -> Config:
        """The run with these values, as long as the config says.

        Raises ConfigError or ValueError for values that do not go together.
        """
        return config_from_dict(self.raw_with(values))

    def raw_with(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The config as TOML would say it, with these values."""
        raw = copy.deepcopy(dict(self.raw))
        for name, value in values.items():
            section, key = name.split(".")
            raw.setdefault(section, {})[key] = value
        return raw


def read_space(raw: Mapping[str, Any]) -> Space:
    """The space that a config's table `search` describes.

    Raises:
        ConfigError: there is no such table, or a range in it is none; the message names it.
    """
    plain = {key: value for key, value in raw.items() if key != "search"}
    search = raw.get("search")
    if not isinstance(search, dict) or not search.get("ranges"):
        raise ConfigError(
            "the config has no ranges to search over, expected for example "
            '[search.ranges] "network.latent" = { low = 4, high = 32 }'
        )
    for key in search:
        if key not in ("steps", "ranges"):
            raise ConfigError(f"unknown key search.{key}; known: steps, ranges")
    steps = search.get("steps", TRIAL_STEPS)
    if type(steps) is not int or steps < TRIAL_VALIDATIONS:
        raise ConfigError(f"search.steps is {steps!r}, expected at least {TRIAL_VALIDATIONS}")
    ranges = {name: _range(name, one) for name, one in search["ranges"].items()}
    space = Space(plain, ranges, steps)
    # A misspelt key is told before the first trial.
    space.config({name: _first(one) for name, one in ranges.items()})
    return space


def _range(name: str, raw: Any) -> Range:
    where = f'search.ranges."{name}"'
    parts = name.split(".")
    if len(parts) != 2 or parts[0] not in ("network", "data", "loss", "optimize"):
        raise ConfigError(f"{where}: expected a key such as network.latent or loss.noise")
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} is {raw!r}, expected low and high, or choices")
    if set(raw) == {"choices"} and isinstance(raw["choices"], list) and raw["choices"]:
        return Range(choices=tuple(raw["choices"]))
    low, high, log = raw.get("low"), raw.get("high"), raw.get("log", False)
    numbers = all(type(value) in (int, float) for value in (low, high))
    if set(raw) - {"low", "high", "log"} or not numbers or type(log) is not bool:
        raise ConfigError(f"{where} is {raw!r}, expected low and high (and log), or choices")
    if not low <= high or (log and low <= 0):  # type: ignore[operator]
        raise ConfigError(f"{where}: low is {low} and high {high}, expected low <= high")
    return Range(low, high, log)  # type: ignore[arg-type]


def _first(one: Range) -> Any:
    return one.choices[0] if one.choices else one.low


def toml_text(raw: Mapping[str, Any]) -> str:
    """A config, tables of plain values, as TOML."""
    plain = {key: value for key, value in raw.items() if not isinstance(value, dict)}
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in plain.items())
    for section, keys in raw.items():
        if isinstance(keys, dict):
            text += f"\n[{section}]\n"
            text += "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
    return text


def _toml(value: Any) -> str:
    # JSON writes strings, numbers, booleans and lists as TOML does.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
