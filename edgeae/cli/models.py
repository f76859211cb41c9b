"""The verbs that look at models and files: `models`, `info` and `verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from edgeae.cli import options, terminal
from edgeae.cli.options import UsageError
from edgeae.errors import EdgeaeError

__all__ = ["info", "models", "verify"]

# Enough of a digest to tell bundles apart; --json has all of it.
SHORT_ID = 16
# Of figures and provenance, what a screen holds; --json has the rest.
MOST_ROWS = 12
CHANNELS = {0: "gray", 1: "gray", 3: "RGB", 4: "RGB with transparency"}


def models() -> None:
    """List the models that are inside the package."""
    import edgeae
    from edgeae.bundle import bundled_names

    found = [edgeae.info(name) for name in bundled_names()]
    if not found:
        raise EdgeaeError("this installation holds no models: give commands a model's directory")
    rows = [
        (
            model["name"],
            model["task"],
            model["version"],
            _precisions(model),
            f"{model['bytes'] / 1e6:.2f} MB",
            model["id"][:12],
        )
        for model in found
    ]
    terminal.table(("model", "task", "version", "precisions", "size", "id"), rows)


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A bundled name, a directory or an .eae file.",
            show_default=False,
        ),
    ] = None,
    providers: Annotated[
        bool,
        typer.Option("--providers", help="List the execution providers and devices of this host."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all of it as JSON, figures and provenance too.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model's card.")] = False,
) -> None:
    """Show what is in a model or in the header of an .eae file, or what it could run on."""
    import edgeae

    if model is None and not providers:
        raise UsageError("a MODEL or an .eae file is needed, or --providers")
    if model is None and (as_json or card):
        raise UsageError("--json and --card are about a MODEL or an .eae file")
    if providers:
        _show_providers()
    if model is None:
        return
    if card:
        _show_card(model)
        return
    told = edgeae.info(model)
    if as_json:
        terminal.say(json.dumps(told))
    elif told["what"] == "file":
        _show_file(model, told)
    else:
        _show_model(told)


def verify(
    model: options.Model,
    provider: options.Providers = None,
    threads: options.Threads = 1,
) -> None:
    """Hash every file of a model, load it in each precision, and run it on a test signal.

    In a process of its own, with limits of time and memory: a model may come from a stranger.
    """
    from edgeae.bench.limited import check_in_child

    count = 0
    asked = options.asked_providers(provider)
    for line in check_in_child(model, providers=asked, threads=threads):
        terminal.say(f"ok  {line}")
        count += 1
    terminal.say(f"{model}: {count} checks, all well")


def _show_model(told: dict[str, Any]) -> None:
    layout = ", ".join(f"{key} {_plain(value)}" for key, value in told["layout"].items())
    rows = [
        ("model", f"{told['name']} {told['version']}"),
        ("task", told["task"]),
        ("layout", layout),
        ("id", told["id"][:SHORT_ID]),
        ("directory", told["directory"]),
        ("size", f"{told['bytes'] / 1e6:.2f} MB"),
    ]
    if told["codec_id"]:
        rows.insert(4, ("codec id", told["codec_id"]))
    terminal.table(("", ""), rows, wrapped=1)
    files = [
        (role, name, entry["file"], f"{entry['bytes']:,}")
        for role, precisions in told["graphs"].items()
        for name, entry in precisions.items()
    ]
    files += [("", "", file, f"{size:,}") for file, size in told["files"].items()]
    terminal.table(("graph", "precision", "file", "bytes"), files, right=(3,))
    figures = list(_flat(told["figures"]))
    if figures:
        terminal.table(("figures", ""), figures[:MOST_ROWS], wrapped=1)
    terminal.say("--card tells its data and licences, --json every figure and the provenance")


def _show_file(path: str, told: dict[str, Any]) -> None:
    made_by = (
        "a codec that is not bundled here"
        if told["codec"] is None
        else f"{told['codec']} {told['codec_version']}"
    )
    coded = [("codec", made_by), ("codec id", told["codec_id"])]
    if told.get("lossless"):
        coded = [("codec", "none is needed")]
    if "packet_seconds" in told:
        coded = [("codec", "named by a checksum alone")]
    # Of what is kept exactly there is none.
    quality = "exact" if told["quality"] is None else f"{told['quality']:g} of 1 to 9"
    rows = [("file", path), ("bytes", f"{told['bytes']:,}")]
    if told["kind"] == "image":
        colors = CHANNELS[told["channels"]]
        rows += [
            ("image", f"{told['width']}x{told['height']} pixels, {colors}"),
            ("bits per pixel", f"{told['bits_per_pixel']:.3f}"),
        ]
    if told["kind"] in ("audio", "signal"):
        rows += _sound_rows(told)
    if told["kind"] == "items":
        rows.append(("items", f"{told['items'] or 'one'}, {told['dtype']}"))
    rows += [("quality", quality), *coded]
    terminal.table(("", ""), rows, wrapped=1)


def _sound_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told of a signal, of speech, or of a live stream of it that was kept."""
    what = "speech" if told["kind"] == "audio" else "signal"
    channels = terminal.count(max(1, told["channels"]), "channel")
    samples = f"{told['sample_rate_hz']:g} Hz, {channels}"
    if "packet_seconds" in told:
        return [(what, f"live, packets of {1000 * told['packet_seconds']:g} ms, {samples}")]
    length = (what, f"{told['seconds']:.2f} s, {samples}")
    return [length, ("bits per second", f"{told['bits_per_second']:,.0f}")]


def _show_card(model: str) -> None:
    from edgeae.bundle import find

    bundle = find(model)
    if not (text := bundle.document("CARD.md")):
        raise EdgeaeError(f"{bundle.manifest.name} has no card")
    terminal.say_text(text)


def _show_providers() -> None:
    from edgeae.providers import CPU, KNOWN
    from edgeae.runtime import hardware

    known = {provider.name: provider for provider in KNOWN}
    rows = []
    for device in hardware():
        about = known.get(device.provider)
        kinds = [kind for kind in about.options if kind != "cpu"] if about else []
        words = "cpu" if device.provider == CPU else ", ".join(kinds)
        needs = [
            need
            for need, is_so in (
                ("fixed shapes", about is not None and about.fixed_shapes),
                ("quantized graphs", about is not None and about.quantized),
            )
            if is_so
        ]
        tells = f"{device.kind} {device.vendor}".strip() or "not told"
        rows.append((device.provider, device.source, tells, words, ", ".join(needs)))
    terminal.table(("provider", "from", "hardware", "--device", "needs"), rows)
    terminal.say(
        "To be listed is not to run a given model: edgeae verify MODEL --provider NAME tells that."
    )


def _precisions(model: dict[str, Any]) -> str:
    return ", ".join(sorted({name for files in model["graphs"].values() for name in files}))


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The numbers and words of nested sections, by their path; tables of results are left out."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        elif not (isinstance(value, list) and any(isinstance(row, dict) for row in value)):
            yield name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)
