"""Search for the best network within a device's limits:

    python -m train.search CONFIG --data DIR --trials 20 --max-ms 2 --max-bytes 300000

Ranges stand in the config, as in train/configs/digits.toml. Each trial is trained briefly,
exported, quantized and timed on this machine; the best within the limits is trained to its end.
OUT then holds `model/` (the bundle), `run/` (its training), `best.toml`, `search.json` and
`front.html`. Needs Optuna: pip install "edgeae[search]".
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.__main__ import add_data_options, with_options

if TYPE_CHECKING:
    import optuna

    from train.config import Config
    from train.search.front import Trial
    from train.search.space import Space
    from train.search.trial import Measured

# Trials before the sampler and the pruner trust what they have seen.
_STARTUP_TRIALS = 5


class SearchError(Exception):
    """No model came of the search; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, search, and say what was found; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        import optuna
    except ImportError:
        print('search: Optuna is missing: pip install "edgeae[search]"', file=sys.stderr)
        return 1
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    from edgeae.errors import EdgeaeError
    from export.parity import ExportError
    from train.config import ConfigError, read_toml
    from train.search.space import read_space

    try:
        raw = read_toml(options.config)
        if raw.get("task") != "autoencoder":
            raise ConfigError(f"task is {raw.get('task')!r}, expected 'autoencoder'")
        space = read_space(raw)
        out = options.out or Path("runs") / f"{raw['name']}-search"
        _check_folder(out, force=options.force)
        return _search(options, space, out)
    except (ConfigError, SearchError, ExportError, EdgeaeError, ValueError, OSError) as error:
        print(f"search: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("search: interrupted; search.json holds the trials so far", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="a TOML file with ranges")
    parser.add_argument("--trials", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument(
        "--max-ms",
        type=float,
        default=math.inf,
        help="what one item through encoder and decoder may take, on one thread of this machine",
    )
    parser.add_argument(
        "--max-bytes", type=float, default=math.inf, help="what both graphs may weigh"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, help="begin no trial after so long"
    )
    parser.add_argument("--out", type=Path, help="folder (default: runs/NAME-search)")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried")
    parser.add_argument("--force", action="store_true", help="replace the search that OUT holds")
    add_data_options(parser)
    return parser


def _check_folder(out: Path, *, force: bool) -> None:
    if (out / "search.json").exists() and not force:
        raise ValueError(f"{out} holds a search, expected --force to replace it")
    out.mkdir(parents=True, exist_ok=True)


def _search(options: argparse.Namespace, space: Space, out: Path) -> int:
    """Run all trials, choose, and train the chosen one to its end; the exit code."""
    import optuna

    from train.search.front import front_page, pareto_front, table, write_json
    from train.search.trial import trained

    limits = {
        "max_ms": options.max_ms if math.isfinite(options.max_ms) else None,
        "max_bytes": options.max_bytes if math.isfinite(options.max_bytes) else None,
    }
    trials: list[Trial] = []

    def objective(trial: optuna.Trial) -> float:
        values = space.draw(trial)
        found = _tried(trial, values, options, space, out / "trial")
        trials.append(found)
        write_json(out / "search.json", trials, limits=limits)
        print(_line(found), flush=True)
        one = found.measured
        if one is None:
            raise optuna.TrialPruned(found.why)
        trial.set_constraint("ms", _excess(one.ms, options.max_ms))
        trial.set_constraint("bytes", _excess(one.bytes, options.max_bytes))
        return one.score

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=options.seed, n_startup_trials=_STARTUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=space.steps // 3
        ),
    )
    minutes = options.max_minutes
    try:
        study.optimize(
            objective,
            n_trials=options.trials,
            timeout=60 * minutes if math.isfinite(minutes) else None,
        )
    finally:
        shutil.rmtree(out / "trial", ignore_errors=True)
    front = pareto_front(trials)
    if not front:
        raise SearchError(_why_none(trials))
    print(f"\nPareto front, {len(front)} of {len(trials)} trials:\n{table(front)}", flush=True)
    best = front[0]
    (out / "front.html").write_text(
        front_page(space.raw["name"], trials, limits=limits, chosen=best.number), encoding="utf-8"
    )
    config = _with_data(space, best.values, options)
    _write_best(out / "best.toml", space, best)
    print(f"\ntraining trial {best.number} to its end, {config.optimize.steps} steps", flush=True)
    final = trained(config, out / "run", out / "model")
    assert final is not None and best.measured is not None
    ratio = final.ms / best.measured.ms
    chosen = {
        "trial": best.number,
        **asdict(final),
        "ms": final.ms,
        "ms_of_search": best.measured.ms,
        "ms_ratio": ratio,
    }
    write_json(out / "search.json", trials, limits=limits, chosen=chosen)
    print(
        f"{out / 'model'}: score {final.score:.4g}, {final.ms:.3g} ms ({ratio:.2f} of what the "
        f"search measured), {final.bytes} bytes, {final.precision}"
    )
    if beyond := final.exceeds(options.max_ms, options.max_bytes):
        raise SearchError(f"the finished model is beyond the limits: {'; '.join(beyond)}")
    return 0


def _tried(
    trial: optuna.Trial,
    values: dict[str, Any],
    options: argparse.Namespace,
    space: Space,
    folder: Path,
) -> Trial:
    """Train, export and time one candidate."""
    from edgeae.errors import EdgeaeError
    from export.parity import ExportError
    from train.config import ConfigError
    from train.search.front import Trial
    from train.search.trial import brief, trained

    def go_on(step: int, score: float) -> bool:
        trial.report(score, step)
        return not trial.should_prune()

    shutil.rmtree(folder, ignore_errors=True)
    try:
        config = brief(_with_data(space, values, options), space.steps)
        found: Measured | None = trained(config, folder / "run", folder / "model", go_on=go_on)
    except (ConfigError, ExportError, EdgeaeError, ValueError) as error:
        return Trial(trial.number, values, "failed", str(error))
    if found is None:
        return Trial(trial.number, values, "pruned", "behind the others")
    beyond = found.exceeds(options.max_ms, options.max_bytes)
    return Trial(trial.number, values, "exceeds" if beyond else "kept", "; ".join(beyond), found)


def _with_data(space: Space, values: dict[str, Any] | Any, options: argparse.Namespace) -> Config:
    return with_options(space.config(values), vars(options))


def _excess(value: float, limit: float) -> float:
    """How far beyond a limit, 0 or less within it, as a share of it."""
    return value / limit - 1 if math.isfinite(limit) else -1.0


def _line(trial: Trial) -> str:
    one = trial.measured
    told = f"score {one.score:.4g}, {one.ms:.3g} ms, {one.bytes} bytes" if one else trial.why
    values = ", ".join(f"{name} {value}" for name, value in trial.values.items())
    return f"trial {trial.number} ({values}): {trial.state}, {told}"


def _why_none(trials: Sequence[Trial]) -> str:
    """What to say where no trial keeps within the limits."""
    measured = [trial.measured for trial in trials if trial.measured is not None]
    if measured:
        return (
            "no trial keeps within the limits: the fastest took "
            f"{min(one.ms for one in measured):.3g} ms, the smallest has "
            f"{min(one.bytes for one in measured)} bytes; widen the ranges downwards"
        )
    reasons = {trial.why for trial in trials if trial.why}
    return f"no trial came to its end: {'; '.join(sorted(reasons)) or 'there was no time for one'}"


def _write_best(file: Path, space: Space, best: Trial) -> None:
    from train.search.space import toml_text

    file.write_text(
        f"# Trial {best.number} of a search: python -m train {file} --data DIR\n"
        + toml_text(space.raw_with(best.values)),
        encoding="utf-8",
    )


if __name__ == "__main__":
    raise SystemExit(main())
