"""Write a config's data into one compact file: `python -m train.pack CONFIG OUT --speech DIR ...`.

`python -m train CONFIG --pack OUT` trains from it: on a GPU the data live in its memory, and
batches are made there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from train.__main__ import add_data_options, with_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, write the file, and say what it holds; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="a TOML file such as those in train/configs")
    parser.add_argument("out", type=Path, help="the file to write")
    add_data_options(parser)
    options = parser.parse_args(arguments)
    from train.config import ConfigError, read_config
    from train.recipes import recipe_class

    try:
        config = with_options(read_config(options.config), vars(options))
        report = recipe_class(config.task).pack(config, options.out)
    except (ConfigError, ValueError, OSError) as error:
        print(f"train.pack: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: " + ", ".join(f"{name} {value}" for name, value in report.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
