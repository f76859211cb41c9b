"""A page about a run of an autoencoder: `python -m train.report runs/mine`.

Writes RUN/report.html, which loads nothing from elsewhere: curves, held-out items beside what
comes back of them, the latent space in two dimensions (principal components, and UMAP where
umap-learn is installed), samples, and which latents are in use.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from train import charts
from train.autoencoder import pictures
from train.autoencoder.data import Items, read_items
from train.autoencoder.network import Autoencoder
from train.autoencoder.recipe import with_mask
from train.checkpoint import CheckpointError, load_checkpoint
from train.config import Config, ConfigError

Floats = npt.NDArray[np.float32]

# Items that a page shows, dots that a browser still moves smoothly, and latents that bars fit.
_SHOWN, _DOTS, _BARS = 12, 1500, 64
_STYLE = """<style>
.items { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: .6rem;
  } .items figure { display: flex; gap: .4rem; justify-content: center; }
.items img { image-rendering: pixelated; object-fit: contain; border-radius: 4px; }
.given { stroke: var(--faint); stroke-width: 4; stroke-opacity: .45; fill: none; }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 8rem; }
.bars div { flex: 1; background: var(--c0); min-height: 1px; border-radius: 2px 2px 0 0; }
.bars div.off { background: var(--c1); }
</style>"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and write the page; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run, or a checkpoint")
    parser.add_argument("--out", type=Path, help="where the page goes (default: RUN/report.html)")
    parser.add_argument(
        "--data", nargs="+", metavar="DIR", help="the data's folders, if they have moved"
    )
    options = parser.parse_args(arguments)
    folder = options.run if options.run.is_dir() else options.run.parent
    out = options.out or folder / "report.html"
    try:
        out.write_text(report(options.run, data=tuple(options.data or ())), encoding="utf-8")
    except (CheckpointError, ConfigError, ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(out)
    return 0


def report(run: Path, *, data: tuple[str, ...] = ()) -> str:
    """The page of a run, as HTML.

    Args:
        run: folder of the run, whose best weights and last history are shown, or a checkpoint.
        data: folders of the data instead of the run's.

    Raises:
        CheckpointError: there is none, or it is of another family.
        ValueError: the data are gone, or of another shape.
    """
    checkpoint, last = (run / "best.pt", run / "last.pt") if run.is_dir() else (run, run)
    config, state = load_checkpoint(checkpoint if checkpoint.exists() else last)
    if config.task != "autoencoder":
        raise CheckpointError(f"{run} holds a {config.task}, expected an autoencoder")
    if last.exists():
        state = {**load_checkpoint(last)[1], "averaged": state["averaged"]}
    if data:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, folders=data))
    items = read_items(config.data, config.network.network, config.seed)
    network = Autoencoder(config.network, tuple(state["averaged"]["mean"].shape))
    network.load_state_dict(state["averaged"])
    if items.shape != network.shape:
        raise ValueError(f"items have shape {items.shape}, the run's {network.shape}")
    return charts.page(f"Run {config.name}", _STYLE + _body(config, state, items, network.eval()))


@torch.no_grad()
def _body(config: Config, state: dict[str, Any], items: Items, network: Autoencoder) -> str:
    held_out = items.validation[:_DOTS]
    latents, log_variance = network.encode(*with_mask(held_out))
    restored = network.decode(latents).numpy()
    mean, scale = (network.get_buffer(name).numpy() for name in ("mean", "scale"))
    order = np.linspace(0, len(held_out) - 1, min(_SHOWN, len(held_out))).astype(int)
    errors = np.square((restored - held_out) / scale)
    codes = latents.numpy()
    low, high = float(np.nanmin(held_out)), float(np.nanmax(held_out))
    # Pixels keep their black and white.
    tones = (0.0, 1.0) if 0 <= low <= high <= 1 else (low, high)
    look = pictures.Look(mean, scale, tones, items.names)
    parts = [
        _summary(config, state, items, network),
        "<h2>Curves</h2>" + _curves(state["history"]),
        "<h2>Held-out items and what comes back of them</h2>",
        f'<p class="faint">{_how_to_read(config)}</p>',
        pictures.pair(held_out[order], restored[order], look),
        _columns(errors, items) if config.network.network == "dense" else "",
        "<h2>Latent space</h2>" + _latent_space(codes, errors),
        "<h2>Samples</h2><p class='faint'>New items, decoded from latents drawn as the training "
        "data's are spread.</p>",
        pictures.gallery(_samples(network), look),
        "<h2>Latents in use</h2>" + _active(codes, log_variance),
    ]
    return "\n".join(parts)


def _summary(config: Config, state: dict[str, Any], items: Items, network: Autoencoder) -> str:
    size = " x ".join(map(str, items.shape))
    parameters = sum(p.numel() for p in network.parameters())
    ratio = int(np.prod(items.shape)) / config.network.latent
    best = min(state["history"], key=lambda one: one["score"], default=None)
    told = f" Best score {charts.number(best['score'])} at step {best['step']}." if best else ""
    skipped = f" {len(items.skipped)} files could not be read." if items.skipped else ""
    return (
        f"<p>{config.network.network}, items of {escape(size)} to {config.network.latent} latents "
        f"({ratio:.3g} entries a latent), {parameters:,} parameters. "
        f"{len(items.training):,} items to train on, {len(items.validation):,} held out."
        f"{skipped}</p><p>{state['step']:,} steps in {state['seconds'] / 60:.1f} minutes.{told}</p>"
    )


def _curves(history: Sequence[dict[str, float]]) -> str:
    steps = [one["step"] for one in history]

    def curve(key: str) -> tuple[list[float], list[float]]:
        return steps, [one.get(key, float("nan")) for one in history]

    errors = {"held-out error": curve("error")}
    if any(one.get("score") != one.get("error") for one in history):
        errors["score"] = curve("score")
    drawn = charts.lines(errors, x_label="step", y_label="error", log_y=True)
    active = charts.lines(
        {"share": curve("active_share")}, x_label="step", y_label="share of latents in use"
    )
    return (
        f'<div class="charts"><figure>{drawn}<figcaption>Mean squared error in units of the '
        "data's own spread: 1 is as good as always saying the mean.</figcaption></figure>"
        f"<figure>{active}<figcaption>Latents that are not zero, or that vary over the data."
        "</figcaption></figure></div>"
    )


def _how_to_read(config: Config) -> str:
    if config.network.network == "conv2d":
        return "Left as it is, right as it comes back."
    what = "columns in their order" if config.network.network == "dense" else "time"
    return (
        f"Wide and grey as it is, in color as it comes back; across: {what}. "
        "A gap in the grey is a missing value."
    )


def _columns(errors: Floats, items: Items) -> str:
    """The columns of a table that come back worst."""
    if not items.names or len(items.names) != errors.shape[1]:
        return ""
    each = np.nanmean(errors, axis=0)
    worst = np.argsort(-np.nan_to_num(each))[:_SHOWN]
    rows = "".join(
        f"<tr><td>{escape(items.names[i])}</td><td class='n'>{charts.number(float(each[i]))}</td>"
        "</tr>"
        for i in worst
    )
    return (
        "<h2>Columns that come back worst</h2><table><tr><th>column</th>"
        f"<th class='n'>mean squared error, in deviations</th></tr>{rows}</table>"
    )


def _latent_space(codes: Floats, errors: Floats) -> str:
    """Held-out items in two dimensions; those that come back worst stand out."""
    each = np.nanmean(errors.reshape(len(errors), -1), axis=1)
    hard = each > np.quantile(each, 0.9)
    if codes.shape[1] == 1:
        places, share = np.concatenate([codes, each[:, None]], axis=1), 1.0
        labels = ("the latent", "error")
    else:
        places, share = _principal_plane(codes)
        labels = ("first direction", "second direction")
    figures = [
        f"<figure>{_dots(places, each, hard, labels)}<figcaption>Principal components: {share:.0%} "
        "of the latents' variance. Orange: the tenth of the items that comes back worst."
        "</figcaption></figure>"
    ]
    if (mapped := _umap(codes)) is not None:
        figures.append(
            f"<figure>{_dots(mapped, each, hard, ('', ''))}<figcaption>UMAP: neighbors stay "
            "neighbors, distances mean little.</figcaption></figure>"
        )
    return f'<div class="charts">{"".join(figures)}</div>'


def _principal_plane(codes: Floats) -> tuple[Floats, float]:
    """Places (N, 2) in the plane of most variance, and its share of it."""
    u, s, _ = np.linalg.svd(codes.astype(np.float64) - codes.mean(0), full_matrices=False)
    places = np.zeros((len(codes), 2), np.float32)
    kept = min(2, len(s))
    places[:, :kept] = u[:, :kept] * s[:kept]
    return places, float((s[:kept] ** 2).sum() / max(float((s**2).sum()), 1e-12))


def _umap(codes: Floats) -> Floats | None:
    """Places (N, 2) by UMAP; None where umap-learn is not installed or items are too few."""
    try:
        import umap
    except ImportError:
        return None
    neighbors = min(15, len(codes) - 1)
    if neighbors < 2:
        return None
    found = umap.UMAP(n_neighbors=neighbors, random_state=0, n_jobs=1).fit_transform(codes)
    return np.asarray(found, np.float32)


def _dots(places: Floats, each: Floats, hard: npt.NDArray[np.bool_], labels: Sequence[str]) -> str:
    points = [
        charts.Point(
            float(x), float(y), f"held-out item {i}: error {error:.3g}", int(worst), radius=3.5
        )
        for i, ((x, y), error, worst) in enumerate(zip(places, each, hard, strict=True))
    ]
    return charts.scatter(points, x_label=labels[0], y_label=labels[1])


def _samples(network: Autoencoder) -> Floats:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((_SHOWN, network.config.latent)).astype(np.float32)
    factor, mean = network.get_buffer("latent_factor"), network.get_buffer("latent_mean")
    return network.decode(torch.from_numpy(normal) @ factor.T + mean).numpy()


def _active(codes: Floats, log_variance: torch.Tensor | None) -> str:
    """A bar for each latent: how much it says of the held-out items."""
    if log_variance is not None:
        # Burda et al. 2016: a latent whose mean varies by more than this is in use.
        values, least = codes.var(axis=0), 0.01
        told = "variance of each latent's mean over the items; below 0.01 it says nothing"
    elif (codes == 0).any():
        values, least = (np.abs(codes) > 1e-6).mean(axis=0), 1e-9
        told = "share of the items in which each latent is not zero"
    else:
        values, least = codes.std(axis=0), 1e-6
        told = "standard deviation of each latent over the items"
    order = np.argsort(-values)[:_BARS]
    top = max(float(values.max()), 1e-12)
    bars = "".join(
        f'<div class="{"off" if values[i] <= least else "on"}" '
        f'style="height:{100 * float(values[i]) / top:.1f}%" '
        f'title="latent {i}: {charts.number(float(values[i]))}"></div>'
        for i in order
    )
    more = f" The first {_BARS} of {len(values)} are drawn." if len(values) > _BARS else ""
    return (
        f"<p>{int((values > least).sum())} of {len(values)} latents are in use. Bars: {told}, "
        f'largest first, the largest {charts.number(top)}.{more}</p><div class="bars">{bars}</div>'
    )


if __name__ == "__main__":
    raise SystemExit(main())
