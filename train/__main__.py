"""Train a model: `python -m train train/configs/photo-codec.toml --photos FOLDER --out runs/photo`.

Several processes train one network together, each with batches of its own, when torchrun starts
them: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m train ...`. docs/training.md tells the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.recipes import RECIPES, Option

if TYPE_CHECKING:
    from train.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, train, and say where the checkpoint is; the exit code."""
    options = _parser().parse_args(arguments)
    if options.init is not None:
        return _init(options.init, options.config, force=options.force)
    first = os.environ.get("RANK", "0") == "0"
    if first:
        # Importing torch takes seconds, and reading data more.
        print(f"reading {options.config or options.out or 'the command line'}", flush=True)
    from train.checkpoint import CheckpointError, find_checkpoint
    from train.config import ConfigError
    from train.loop import train
    from train.processes import Processes
    from train.stop import StopRequest

    stop = StopRequest()
    try:
        if options.resume_or_start:
            if options.out is None:
                raise ConfigError("--resume-or-start needs --out")
            options.resume = (options.out / "last.pt").exists()
        config = _config(options)
        out = options.out or Path("runs") / config.name
        start_from = find_checkpoint(options.start_from) if options.start_from else None
        if options.take and start_from is None:
            raise ConfigError("--take is given without --start-from, of which it takes parts")
        _check_folder(out, resume=options.resume, force=options.force, first=first)
        state = train(
            config,
            out,
            processes=Processes(),
            max_minutes=options.max_minutes,
            # What the config says is for days; a schedule that is cut off never comes to rest.
            fit_schedule=options.steps is None and math.isfinite(options.max_minutes),
            resume=options.resume,
            start_from=start_from,
            take=tuple(options.take or ()),
            stop=stop,
        )
    except (ConfigError, CheckpointError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted before the first step, nothing is saved", file=sys.stderr)
        return 128 + signal.SIGINT
    if not first:
        return 0
    last = out / "last.pt"
    if stop.signal:
        name = signal.Signals(stop.signal).name
        print(f"{name}: {last} holds all {state['step']} steps; to go on with the run:")
        print(f"  python -m train --resume --out {out}")
        return 128 + stop.signal
    print(f"{last}: {state['step']} steps, best score {state['best']:.4f}")
    return 0


def _init(folder: Path, config: Path | None, *, force: bool) -> int:
    """Write a first config for a folder of data; the exit code."""
    from train.autoencoder.first_config import first_config

    target = config or Path(f"{folder.resolve().name}.toml")
    try:
        if target.exists() and not force:
            raise ValueError(f"{target} is there, expected --force to replace it")
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder")
        target.write_text(first_config(folder), encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    print(target.read_text(encoding="utf-8"))
    print(f"{target} is written; to train: python -m train {target}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        help="a TOML file such as train/configs/photo-codec.toml; with --resume that of the run",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="DIR",
        help="look at the data in a folder and write a first config for them, with its reasons, to "
        "CONFIG (default: the folder's name with .toml)",
    )
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument(
        "--start-from",
        metavar="NAME|FILE",
        help="begin with the weights of a shipped model, by its name, or of a checkpoint",
    )
    parser.add_argument(
        "--take",
        nargs="+",
        metavar="PART",
        help="of --start-from only these parts, such as encoder or decoder",
    )
    parser.add_argument(
        "--freeze",
        nargs="+",
        metavar="PART",
        help="parts that are not trained, such as encoder; instead of the config's optimize.freeze",
    )
    parser.add_argument(
        "--max-minutes",
        type=float,
        default=math.inf,
        help="end cleanly after so long; the schedule is cut to fit, but for --steps and --resume",
    )
    parser.add_argument("--steps", type=int, help="length of the schedule instead of the config's")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), help="instead of the config's"
    )
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    parser.add_argument(
        "--resume-or-start",
        action="store_true",
        help="go on from OUT/last.pt if it is there, else begin: for torchrun, which starts all "
        "processes again when one dies",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the run that OUT holds, or the config"
    )
    add_data_options(parser)
    return parser


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of all recipes that name data."""
    for name, (option, tasks) in _options().items():
        parser.add_argument(
            f"--{name}",
            nargs="+" if option.folders else None,
            metavar="DIR" if option.folders else "FILE",
            help=f"{option.help} ({', '.join(tasks)})",
        )


def _options() -> dict[str, tuple[Option, list[str]]]:
    """The options of all recipes, each with the tasks that have it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for task, row in RECIPES.items():
        for name, option in row.options.items():
            found.setdefault(name, (option, []))[1].append(task)
    return found


def _config(options: argparse.Namespace) -> Config:
    """The run that the command line describes."""
    from train.checkpoint import load_checkpoint
    from train.config import ConfigError, read_config

    if options.config is not None:
        config = read_config(options.config)
    elif options.resume and options.out is not None:
        config, _ = load_checkpoint(options.out / "last.pt")
    else:
        raise ConfigError("no config is given, expected a TOML file, or --resume and --out")
    config = with_options(config, vars(options))
    changes: dict[str, Any] = {}
    out = options.out or Path("runs") / config.name
    if options.resume:
        saved, _ = load_checkpoint(out / "last.pt")
        changes["freeze"] = saved.optimize.freeze
        if options.steps is None:
            # The run's own schedule, which may have been cut to a time budget.
            changes["steps"] = saved.optimize.steps
            changes["warmup_steps"] = saved.optimize.warmup_steps
    if options.steps is not None:
        changes["steps"] = options.steps
    if options.precision is not None:
        changes["precision"] = options.precision
    if options.freeze:
        changes["freeze"] = tuple(f"{part.rstrip('.')}." for part in options.freeze)
    optimize = dataclasses.replace(config.optimize, **changes)
    return dataclasses.replace(config, optimize=optimize)


def with_options(config: Config, given: dict[str, Any]) -> Config:
    """The configuration with the folders and files that the command line names.

    Raises ConfigError for an option of another task, and for a folder that is not there.
    """
    from train.config import ConfigError

    own = RECIPES[config.task].options
    for name in _options():
        value = given.get(name)
        if not value:
            continue
        if name not in own:
            raise ConfigError(f"--{name} is not for the task {config.task}")
        option = own[name]
        if option.folders:
            for folder in value:
                if folder != "synthetic" and not Path(folder).is_dir():
                    raise ConfigError(f"{folder} is not a folder")
            value = tuple(value)
        section = dataclasses.replace(getattr(config, option.section), **{option.key: value})
        changed: dict[str, Any] = {option.section: section}
        config = dataclasses.replace(config, **changed)
    return config


def _check_folder(out: Path, *, resume: bool, force: bool, first: bool) -> None:
    """Make sure that a run can be kept in a folder, before anything is computed.

    Raises ValueError if it holds another run, and OSError if it cannot be written to.
    """
    held = [name for name in ("last.pt", "best.pt") if (out / name).exists()]
    if held and not resume and not force:
        raise ValueError(
            f"{out} holds a run, expected --resume to go on with it or --force to replace it"
        )
    if not first:
        return
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(f"cannot write to {out}")
    if force and not resume:
        for name in held:
            (out / name).unlink()
        shutil.rmtree(out / "tensorboard", ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
