"""Put measured figures where people read them: README.md, and the card and manifest of a bundle.

    python -m benchmarks.publish

reads `benchmarks/results/*.json` and writes the tables between the `results` marks of README.md and
into the bundles under `edgeae/models/` that were measured. No figure is typed by hand.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.targets import target_rows, variant_rows
from export.manifest import add_figures, markdown_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ROOT / "edgeae" / "models"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Row = dict[str, str]


def codec_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each codec of a rate-distortion run."""
    rows = []
    for name, codec in result["codecs"].items():
        at = codec["psnr_db_at_bpp"]
        rows.append(
            {
                "codec": name,
                "BD-rate PSNR": _signed_percent(codec["bd_rate_psnr_percent"]),
                "BD-rate MS-SSIM": _signed_percent(codec.get("bd_rate_ms_ssim_percent")),
                "dB at 0.25 / 0.5 / 1 bpp": " / ".join(
                    _number(at[r]) for r in ("0.25", "0.5", "1.0")
                ),
                "encode ms": _number(codec["encode_ms"], 0),
                "decode ms": _number(codec["decode_ms"], 0),
            }
        )
    return rows


def speech_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each system of a speech run."""
    rows = []
    for name, system in result["systems"].items():
        means = system["means"]
        rows.append(
            {
                "system": name,
                "PESQ-WB": _number(means.get("pesq"), 2),
                "STOI": _number(means.get("stoi"), 3),
                "ESTOI": _number(means.get("estoi"), 3),
                "SI-SDR dB": _number(means.get("si_sdr_db"), 2),
                "DNSMOS": _number(means.get("dnsmos"), 2),
                "speed": _number(system["audio_seconds_per_cpu_second"], 0),
                "latency ms": _number(system["latency_ms"], 0),
                "parameters": _count(system["parameters"]),
            }
        )
    return rows


def entropy_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each quality of a comparison of entropy models."""
    return [
        {
            "quality": str(row["quality"]),
            "static tables": f"{row['static']:,}",
            "sent scale index": f"{row['explicit']:,}",
            "integer contexts": f"{row['context']:,}",
            "saved": f"{1 - row['context'] / min(row['static'], row['explicit']):.1%}",
        }
        for row in result["rows"]
    ]


@dataclass(frozen=True)
class Published:
    """One result file: what README says above its table, the rows, the bundle whose card has it."""

    file: str
    text: str
    command: str
    rows: Callable[[Mapping[str, Any]], list[Row]]
    model: str | None
    in_readme: bool = True


_MATRIX = (
    "python -m benchmarks.provider_matrix photo-codec speech-denoiser --work DIR"
    " --json benchmarks/results/providers.json"
)
_MOBILE = "python -m benchmarks.mobile NOISY CLEAN PHOTOS --json benchmarks/results/mobile.json"

PUBLISHED = (
    Published(
        "kodak.json",
        "**Photos**, the 24 Kodak images, real file sizes. BD-rate against progressive JPEG 4:2:0"
        " at equal quality (negative is better); CPU milliseconds of one thread at about 0.5 bit"
        " per pixel.",
        "python -m benchmarks.rate_distortion FOLDER --json benchmarks/results/kodak.json",
        codec_rows,
        "photo-codec",
    ),
    Published(
        "entropy_models.json",
        "**Entropy models**: bytes of the same symbols of 12 Kodak images, with tables chosen in"
        " three ways.",
        "python -m benchmarks.entropy_models FOLDER --json benchmarks/results/entropy_models.json",
        entropy_rows,
        "photo-codec",
    ),
    Published(
        "denoise_dev.json",
        "**Speech**: 60 recordings with speakers and noises that were not trained on, -5 to 15 dB."
        " Speed is seconds of audio per CPU second of one thread, hop by hop.",
        "python -m benchmarks.speech NOISY CLEAN --json benchmarks/results/denoise_dev.json",
        speech_rows,
        "speech-denoiser",
    ),
    Published(
        "voicebank_dev.json",
        "**Speech, other recordings**: 30 files of VoiceBank+DEMAND, skewed to low SNR.",
        "python -m benchmarks.speech NOISY CLEAN --json benchmarks/results/voicebank_dev.json",
        speech_rows,
        "speech-denoiser",
    ),
    Published(
        "providers.json",
        "**Where the photo codec's graphs run**: which of their nodes a target takes, and how near"
        " its output is to the CPU's (signal over difference). Run: in an environment of its own;"
        " checked and documented: by operators, without running. The context graphs carry exact"
        " integers and stay on the CPU.",
        _MATRIX,
        functools.partial(target_rows, model="photo-codec"),
        "photo-codec",
    ),
    Published(
        "providers.json",
        "**Where the speech denoiser's graph runs**, likewise, here on a faint hop, 30 dB down;"
        " `step.portable` computes the same with operators that NNAPI, CoreML and QNN have.",
        _MATRIX,
        functools.partial(target_rows, model="speech-denoiser"),
        "speech-denoiser",
    ),
    Published(
        "mobile.json",
        "",
        _MOBILE,
        functools.partial(variant_rows, kind="photo"),
        "photo-codec",
        in_readme=False,
    ),
    Published(
        "mobile.json",
        "",
        _MOBILE,
        functools.partial(variant_rows, kind="speech"),
        "speech-denoiser",
        in_readme=False,
    ),
)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed_percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def _count(value: int | None) -> str:
    if not value:
        return "-"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k"


def _measured_bundle(result: Mapping[str, Any], model: str) -> str:
    """The id under which our bundle was measured."""
    if "bundles" in result:
        return str(result["bundles"][model])
    if "bundle" in result:
        return str(result["bundle"]["id"])
    ours = next(system["bundle"] for system in result["systems"].values() if system["bundle"])
    return str(ours["id"])


def results() -> Iterator[tuple[Published, Mapping[str, Any]]]:
    """The result files that are there, in the order of README."""
    for published in PUBLISHED:
        path = RESULTS / published.file
        if path.exists():
            yield published, json.loads(path.read_text(encoding="utf-8"))


def readme_results() -> str:
    """What stands between README's marks."""
    return "\n\n".join(
        f"{published.text}\n`{published.command}`\n\n{markdown_table(published.rows(result))}"
        for published, result in results()
        if published.in_readme
    )


def main() -> None:
    """Write README's results and every measured bundle's figures."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n\n{readme_results()}\n\n{END}{after}", encoding="utf-8")
    figures: dict[str, list[dict[str, Any]]] = {}
    for published, result in results():
        if published.model is not None:
            measured = {
                "command": published.command,
                "bundle": _measured_bundle(result, published.model),
                "rows": published.rows(result),
            }
            figures.setdefault(published.model, []).append(measured)
    for model, measured_of in figures.items():
        add_figures(MODELS / model, measured_of)


if __name__ == "__main__":
    main()
