"""The `edgeae` command: its verbs, its errors and exit codes.

Exit 0: done. 1: bad data or model. 2: wrong usage. 128 + n: ended by signal n.
Verbs import what they need when they run, so that --help is quick.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edgeae.cli import (
    autoencoder,
    bench,
    codec,
    demo,
    denoise,
    image_restoration,
    link,
    models,
    score,
    terminal,
)
from edgeae.cli.options import UsageError
from edgeae.errors import EdgeaeError

__all__ = ["app", "main"]


class _Ended(BaseException):
    """A signal asks the process to end; raised so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        self.number = number


class _OneLineErrors(TyperGroup):
    """Commands whose errors are one line on stderr: exit 1 for data and models, 2 for usage."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _told_in_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _told_in_one_line():
            result = super().invoke(ctx)
            terminal.check_output()
            return result


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # typer ends quietly when the reader of a pipe has gone
        raise
    except MemoryError:
        terminal.complain("there is not enough memory for this")
        raise typer.Exit(1) from None
    except UsageError as error:
        terminal.complain(str(error))
        raise typer.Exit(2) from None
    except OSError as error:
        name = error.filename
        reason = error.strerror or str(error).strip() or type(error).__name__
        terminal.complain(reason if name is None else f"{os.fsdecode(name)}: {reason}")
        raise typer.Exit(1) from None
    except (EdgeaeError, ValueError, terminal.OutputLost) as error:
        terminal.complain(str(error).strip() or type(error).__name__)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        terminal.complain("stopped by Ctrl-C")
        raise typer.Exit(128 + signal.SIGINT) from None
    except _Ended as end:
        terminal.complain(f"stopped by {signal.Signals(end.number).name}")
        raise typer.Exit(128 + end.number) from None
    except Exception as error:
        # Usage errors come from typer or from click, depending on typer's version.
        if not hasattr(error, "format_message") or getattr(error, "exit_code", None) != 2:
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "edgeae"
        terminal.complain(f"{_usage_message(error)} (see {command} --help)")
        raise typer.Exit(2) from None


def _usage_message(error: Any) -> str:
    """What click says of a wrong command line, but for a missing IN or OUT.

    Of `edgeae denoise a.wav` it would say that IN is missing: what comes alone is OUT to it.
    """
    context, missing = getattr(error, "ctx", None), getattr(error, "param", None)
    if type(error).__name__ == "MissingParameter" and context is not None:
        arguments = [p for p in context.command.params if p.param_type_name == "argument"]
        if len(arguments) > 1 and missing in arguments:
            return f"expected {' '.join(p.metavar or p.name.upper() for p in arguments)}"
    return str(error.format_message())


app = typer.Typer(
    name="edgeae",
    cls=_OneLineErrors,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Compress photos, denoise speech and photos with small neural models, on the device.",
)


@app.callback(invoke_without_command=True)
def _edgeae(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        import edgeae

        terminal.say(f"edgeae {edgeae.__version__}")
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


for _verb in (
    demo.demo,
    models.models,
    models.info,
    models.verify,
    codec.compress,
    codec.decompress,
    denoise.denoise,
    score.score,
    image_restoration.fill,
    autoencoder.latents,
    autoencoder.sample,
    link.publish,
    link.subscribe,
    bench.bench,
):
    # The list of verbs would break their first sentences where the source does.
    app.command(short_help=" ".join((_verb.__doc__ or "").split("\n\n")[0].split()))(_verb)


def main() -> None:
    """The entry point of the `edgeae` command."""
    _open_standard_streams()
    if not sys.warnoptions:
        # Warnings of libraries are for who writes programs; what a user must know is said in words.
        warnings.simplefilter("ignore")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Under nohup the signal stays ignored.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    app(prog_name="edgeae")


def _end(number: int, frame: object) -> None:
    raise _Ended(number)


def _open_standard_streams() -> None:
    """Gives a process without standard streams empty ones, and lets names of any bytes through.

    A file would else be opened in their place, and lines written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            terminal.closed_streams.add(number)
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is taken
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
