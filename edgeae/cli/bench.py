"""The verb `bench`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import UsageError
from edgeae.errors import MediaError

__all__ = ["bench"]


# Long: the options are its parameters, which typer reads from the signature.
def bench(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A bundled name or a directory.", show_default=False),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            help="Execution provider; repeat for more. By default every one that is here.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32 or int8; repeat for more. By default every one that the model has.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=options.MAX_THREADS,
            help="Repeat for more. By default 1, 2, 4 ... all cores.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Time for each workload of each configuration.")
    ] = 3.0,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Your own photo or recording instead of the package's.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, every sample too.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write one page with plots, which opens offline.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A.json B.json",
            help="Measure nothing: set two results of --json side by side.",
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Time a model's real work on every execution provider, precision and number of threads."""
    from edgeae import media
    from edgeae.cli import folder

    if compare is not None and model is not None:
        raise UsageError("--compare takes two files and no MODEL")
    if compare is None and model is None:
        raise UsageError("a MODEL is needed, or --compare A.json B.json")
    if report is not None:
        folder.refuse_existing(report, force=force)
    if model is None and compare is not None:
        _compare(*compare, as_json=as_json, page_file=report)
        return
    from edgeae.bench.measure import measure
    from edgeae.bench.report import notes, page, tables

    with terminal.status() as tell:
        result = measure(
            str(model),
            providers=options.asked_providers(provider),
            precisions=precision,
            threads=threads,
            seconds=seconds,
            source=source,
            tell=tell,
        )
    if report is not None:
        media.atomic_write(report, page(result).encode())
    if as_json:
        terminal.say(json.dumps(result))
        return
    terminal.print_tables(tables(result))
    for note in notes(result):
        terminal.say(note)


def _compare(first: Path, second: Path, *, as_json: bool, page_file: Path | None) -> None:
    from edgeae import media
    from edgeae.bench.measure import compare_results
    from edgeae.bench.report import comparison, comparison_page

    results: list[dict[str, Any]] = []
    for path in (first, second):
        try:
            results.append(json.loads(media.read_bytes(path)))
        except (ValueError, RecursionError) as error:
            raise MediaError(f"{path} is not JSON: {error}") from error
    found = compare_results(*results)
    if page_file is not None:
        media.atomic_write(page_file, comparison_page(results[0], results[1], found).encode())
    if as_json:
        told = [asdict(difference) for difference in found]
        for difference in told:  # the samples are in the two files
            del difference["first_samples_ms"], difference["second_samples_ms"]
        terminal.say(json.dumps(told))
        return
    for name, result in zip("AB", results, strict=True):
        bundle, where = result["bundle"], result["machine"]
        terminal.say(
            f"{name}: {bundle['name']} {bundle['version']} {bundle['id'][:12]} on {where['cpu']},"
            f" {where['cores']} cores, {result['time']}"
        )
    terminal.print_tables([comparison(found)])
