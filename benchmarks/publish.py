"""Put measured figures where people read them: README.md, and the card and manifest of a bundle.

    python -m benchmarks.publish

reads `benchmarks/results/*.json` and writes the tables between the `results` marks of README.md,
GUARANTEES.md and pages of docs/, and into the bundles under `edgeae/models/` that were measured.
No figure is typed by hand.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.family_tables import (
    autoencoder_rows,
    held_out_codec_rows,
    held_out_denoiser_rows,
    speech_codec_rows,
    speech_int8_rows,
    throughput_rows,
)
from benchmarks.guarantee_tables import guarantee_rows, sound_rows
from benchmarks.image_tables import image_results
from benchmarks.outside import outside_rows
from benchmarks.signal_tables import (
    beat_rows,
    compression_rows,
    denoising_rows,
    detection_rows,
    encode_time_rows,
    int8_rows,
    number,
)
from benchmarks.targets import target_rows, variant_rows
from export.bundle import add_figures, markdown_table

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
                    number(at[r]) for r in ("0.25", "0.5", "1.0")
                ),
                "encode ms": number(codec["encode_ms"], 0),
                "decode ms": number(codec["decode_ms"], 0),
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
                "PESQ-WB": number(means.get("pesq"), 2),
                "STOI": number(means.get("stoi"), 3),
                "ESTOI": number(means.get("estoi"), 3),
                "SI-SDR dB": number(means.get("si_sdr_db"), 2),
                "DNSMOS": number(means.get("dnsmos"), 2),
                "speed": number(system["audio_seconds_per_cpu_second"], 0),
                "latency ms": number(system["latency_ms"], 0),
                "parameters": _count(system["parameters"]),
            }
        )
    return rows


def speech_edge_rows(result: Mapping[str, Any]) -> list[Row]:
    """One row for what a denoiser does at the edges of its work."""
    clean = result["clean_speech"]
    noises = {
        f"{name} noise dB": number(falls["all_db"])
        for name, falls in result["steady_noise"].items()
    }
    return [
        {
            "clean speech": f"{clean['pesq']:.2f}, {clean['stoi']:.3f}",
            **noises,
            "silence": f"{result['silence_peak']:g}",
        }
    ]


def speech_condition_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each system of a run under the conditions of use."""
    rows = []
    for name, system in result["systems"].items():
        late, speeds = system["late_noise_db"], system["speeds_db"]
        rows.append(
            {
                "system": name,
                "recordings": str(result["files"]),
                "PESQ-WB fresh / never reset": " / ".join(
                    number(system[mode].get("pesq"), 2) for mode in ("fresh", "never_reset")
                ),
                "late noise dB: at once / after zeros / quiet room / lost blocks": " / ".join(
                    number(late[lead]) for lead in ("at once", "zeros", "quiet room", "lost")
                ),
                "fan dB: first second / after 2 s": " / ".join(
                    number(system["fan_db"][part]) for part in ("first second", "after 2 s")
                ),
                "pauses dB": number(system["pauses_db"]["fall"]),
                "speech kept dB": number(system["kept_db"]["all"], 2),
                "sibilants dB": number(system["sibilants_db"]["kept"], 2),
                "clean speech kept dB at speeds 1 / 1.2 / 1.4 / 1.6": " / ".join(
                    number(speeds[speed]) for speed in ("1", "1.2", "1.4", "1.6")
                ),
            }
        )
    return rows


def stereo_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each model: how far the level difference of two channels spreads."""
    return [
        {
            "model": model,
            "recordings": str(result["files"]),
            "noisy input dB": number(spread["noisy"], 2),
            "channels parted dB": number(spread["parted"], 2),
            "channels linked dB": number(spread["linked"], 2),
        }
        for model, spread in result["stereo"].items()
    ]


def large_picture_rows(result: Mapping[str, Any]) -> list[Row]:
    """One row for an image of many megapixels."""
    side = result["side_pixels"]
    return [
        {
            "pixels": f"{side:,} x {side:,}",
            "image": f"{result['image_bytes'] / 1e6:.0f} MB",
            "file": f"{result['file_bytes'] / 1e6:.1f} MB",
            "PSNR": f"{result['psnr_db']:.1f} dB",
            "encode": f"{result['encode_cpu_seconds']:.0f} s, "
            f"{result['encode_peak_bytes'] / 1e6:.0f} MB",
            "decode": f"{result['decode_cpu_seconds']:.0f} s, "
            f"{result['decode_peak_bytes_beyond_image'] / 1e6:.0f} MB",
        }
    ]


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


def packet_loss_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row for each loss: photographs in bursts of three lengths, and speech."""
    photos = {(p["loss"], p["burst"]): p for p in result["photos"]["points"]}
    speech = {(p["loss"], p["burst"]): p for p in result["speech"]["points"]}
    bursts = sorted({burst for loss, burst in photos if loss})
    rows = []
    for loss in sorted({loss for loss, _ in photos}):
        at = [(loss, burst) if loss else (0.0, 1.0) for burst in bursts]
        row = {"packets lost": f"{loss:.0%}"}
        for burst, point in zip(bursts, at, strict=True):
            found = photos[point]
            row[f"photos, bursts of {burst:g}"] = f"{found['psnr_db']:.1f} dB, {found['exact']:.0%}"
        row["speech"] = " / ".join(f"{speech[point]['si_sdr_db_skip']:.1f}" for point in at) + " dB"
        rows.append(row)
    return rows


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
        bundle = result["bundle"]
        return bundle if isinstance(bundle, str) else str(bundle["id"])
    ours = next(system["bundle"] for system in result["systems"].values() if system["bundle"])
    return str(ours["id"])


@dataclass(frozen=True)
class Published:
    """One result file, its table and where it is shown.

    Attributes:
        file: name under benchmarks/results.
        text: what stands above the table in docs/results.md; empty for what only a card shows.
        command: what measured it.
        rows: the table's rows from the file's contents.
        model: the bundle whose card shows the table.
        in_readme: whether README shows it too, which keeps to one screen.
    """

    file: str
    text: str
    command: str
    rows: Callable[[Mapping[str, Any]], list[Row]]
    model: str | None
    in_readme: bool = False


_CONDITIONS = (
    "python -m benchmarks.speech_conditions NOISY CLEAN"
    " --json benchmarks/results/speech_conditions.json"
)
_HELD_OUT = (
    "python -m benchmarks.held_out_speech speech-{0} OLDER.pt {1}"
    " --json benchmarks/results/held_out_{0}.json"
)
_MATRIX = (
    "python -m benchmarks.provider_matrix photo-codec speech-denoiser --work DIR"
    " --json benchmarks/results/providers.json"
)
_SIGNAL_MATRIX = (
    "python -m benchmarks.provider_matrix ecg-codec ecg-denoiser beat-detector --work DIR"
    " --json benchmarks/results/signal_providers.json"
)
_IMAGE_MATRIX = (
    "python -m benchmarks.provider_matrix photo-denoiser --work DIR"
    " --json benchmarks/results/image_providers.json"
)
_COMPRESSION = (
    "python -m benchmarks.signals_compression FOLDER"
    " --json benchmarks/results/signals_compression.json"
)
_DENOISING = (
    "python -m benchmarks.signals_denoising FOLDER --minutes 0.5"
    " --json benchmarks/results/signals_denoising.json"
)
_DETECTION = "python -m benchmarks.detection FOLDER --json benchmarks/results/detection.json"
_INT8 = "python -m benchmarks.signals_int8 FOLDER --json benchmarks/results/signals_int8.json"
_MOBILE = "python -m benchmarks.mobile NOISY CLEAN PHOTOS --json benchmarks/results/mobile.json"

SIGNAL_MODELS = "ecg-codec", "ecg-denoiser", "beat-detector"

PUBLISHED = (
    Published(
        "kodak.json",
        "**Photos**, the 24 Kodak images, real file sizes. BD-rate against progressive JPEG 4:2:0"
        " at equal quality (negative is better); CPU milliseconds of one thread at about 0.5 bit"
        " per pixel; other work ran on the machine, so that times compare with each other alone.",
        "python -m benchmarks.rate_distortion FOLDER --efforts photo-codec-ms-ssim"
        " --json benchmarks/results/kodak.json",
        codec_rows,
        "photo-codec",
        in_readme=True,
    ),
    Published(
        "public_photos.json",
        "**Photos of other origin**: 22 images from public packages"
        " (`benchmarks/public_photos.py`), many of them close-ups.",
        "python -m benchmarks.rate_distortion FOLDER --no-ms-ssim"
        " --json benchmarks/results/public_photos.json",
        codec_rows,
        "photo-codec",
    ),
    Published(
        "large_picture.json",
        "**A large image**: time and memory beyond the image itself, one thread.",
        "python -m benchmarks.large_picture --json benchmarks/results/large_picture.json",
        large_picture_rows,
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
        " Speed is seconds of audio per CPU second of one thread, hop by hop; other work ran on the"
        " machine, so that speeds compare with each other alone.",
        "python -m benchmarks.speech NOISY CLEAN --json benchmarks/results/denoise_dev.json",
        speech_rows,
        "speech-denoiser",
        in_readme=True,
    ),
    Published(
        "voicebank_dev.json",
        "**Speech, other recordings**: 30 files of VoiceBank+DEMAND, skewed to low SNR.",
        "python -m benchmarks.speech NOISY CLEAN --json benchmarks/results/voicebank_dev.json",
        speech_rows,
        "speech-denoiser",
    ),
    Published(
        "speech_edges.json",
        "**Speech, the edges**: clean speech in (PESQ-WB, STOI), ten minutes of steady noise alone"
        " (how far it falls), digital silence (the largest sample that comes out).",
        "python -m benchmarks.speech_edges CLEAN --json benchmarks/results/speech_edges.json",
        speech_edge_rows,
        "speech-denoiser",
    ),
    Published(
        "speech_conditions.json",
        "**Speech, the conditions of use**: all recordings in one stream against fresh states; how"
        " far noise falls in the first second after its beginning, and a fan without speech; how"
        " far pauses fall; how much of the speech is kept, of its sibilants, of faster and higher"
        " voices.",
        _CONDITIONS,
        speech_condition_rows,
        None,
    ),
    Published(
        "speech_conditions.json",
        "**Speech in stereo**: how far the level difference of the two channels spreads"
        " (`benchmarks.speech_conditions`, the voice 6 dB to the left, other noise in each).",
        _CONDITIONS,
        stereo_rows,
        None,
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
        "**Where the speech denoiser's graph runs**, likewise, here on a hop of a pause, of which"
        " hardly anything is left;"
        " `step.portable` computes the same with operators that NNAPI, CoreML and QNN have.",
        _MATRIX,
        functools.partial(target_rows, model="speech-denoiser"),
        "speech-denoiser",
    ),
    Published(
        "image_providers.json",
        "**Where the graphs of `photo-denoiser` run**, as for the photo codec above.",
        _IMAGE_MATRIX,
        functools.partial(target_rows, model="photo-denoiser"),
        "photo-denoiser",
    ),
    Published(
        "mobile.json",
        "",
        _MOBILE,
        functools.partial(variant_rows, kind="photo"),
        "photo-codec",
    ),
    Published(
        "mobile.json",
        "",
        _MOBILE,
        functools.partial(variant_rows, kind="speech"),
        "speech-denoiser",
    ),
    Published(
        "packet_loss.json",
        "**Packet loss**: photographs in packets of 1200 bytes, PSNR and the part of the pixels"
        " that is exact; speech in blocks of 20 ms, SI-SDR for the same three bursts.",
        "python -m benchmarks.packet_loss FOLDER --json benchmarks/results/packet_loss.json"
        " --plot docs/packet_loss.png",
        packet_loss_rows,
        None,
    ),
    Published(
        "speech_codec.json",
        "**Speech in few bits**: 60 clean recordings of speakers that were not trained on; losses"
        " in bursts of 3 frames of 20 ms, in packets of one frame each, are filled at once, and"
        " late, when the next packet is there. PESQ, STOI and ESTOI are what `speech-codec` was"
        " trained for.",
        "python -m benchmarks.speech_codec CLEAN --model speech-codec"
        " --json benchmarks/results/speech_codec.json",
        speech_codec_rows,
        "speech-codec",
    ),
    Published(
        "speech_codec_int8.json",
        "**`speech-codec` in 8 bits**: what its graphs would lose and gain, on speakers who were"
        " held out of training; time is a share of the shipped graph's, in turn with it, while"
        " other work ran on the machine.",
        "python -m benchmarks.speech_codec_int8 SPEECH"
        " --json benchmarks/results/speech_codec_int8.json",
        functools.partial(speech_int8_rows, model="speech-codec"),
        "speech-codec",
    ),
    Published(
        "held_out_denoiser.json",
        "**Weights of `speech-denoiser` on what training held out**, where the shares of their mean"
        " were chosen, and those of 0.3.0: 28 mixes, the network alone, without the package.",
        _HELD_OUT.format("denoiser", "--speech SPEECH --noise NOISE"),
        held_out_denoiser_rows,
        None,
    ),
    Published(
        "held_out_codec.json",
        "**Weights of `speech-codec` on what training held out**, and those of 0.1.1: 16"
        " recordings, bits without headers, losses in bursts of 3 frames of 20 ms.",
        _HELD_OUT.format("codec", "--speech SPEECH"),
        held_out_codec_rows,
        None,
    ),
    Published("signals_compression.json", "", _COMPRESSION, compression_rows, "ecg-codec"),
    Published("signals_compression.json", "", _COMPRESSION, encode_time_rows, "ecg-codec"),
    Published("signals_denoising.json", "", _DENOISING, denoising_rows, "ecg-denoiser"),
    Published("detection.json", "", _DETECTION, beat_rows, "beat-detector"),
    *(
        Published(
            "signal_providers.json",
            f"**Where the graphs of `{model}` run**, as for the photo codec above.",
            _SIGNAL_MATRIX,
            functools.partial(target_rows, model=model),
            model,
        )
        for model in SIGNAL_MODELS
    ),
    *(
        Published(
            "signals_int8.json",
            f"**`{model}` in 8 bits**: what its graphs would lose and gain, on the held-out records"
            " of DS1; time is a share of the shipped graph's.",
            _INT8,
            functools.partial(int8_rows, model=model),
            model,
        )
        for model in SIGNAL_MODELS
    ),
)


def results() -> Iterator[tuple[Published, Mapping[str, Any]]]:
    """The result files that are there, in the order of docs/results.md."""
    for published in PUBLISHED:
        path = RESULTS / published.file
        if path.exists():
            yield published, json.loads(path.read_text(encoding="utf-8"))


def _section(published: Published, result: Mapping[str, Any]) -> str:
    table = markdown_table(published.rows(result))
    return f"{published.text}\n`{published.command}`\n\n{table}"


def readme_results() -> str:
    """What stands between README's marks: one table for each shipped model."""
    return "\n\n".join(_section(p, result) for p, result in results() if p.in_readme)


def all_results() -> str:
    """What stands between the marks of docs/results.md: every table that has a text."""
    return "\n\n".join(_section(p, result) for p, result in results() if p.text)


def guarantee_results() -> str:
    """What stands between the marks of GUARANTEES.md."""
    result = _result("guarantees.json")
    return (
        f"{markdown_table(guarantee_rows(result))}\n\n"
        "Sound inputs of up to 1 MB that claim as much as they may:\n\n"
        f"{markdown_table(sound_rows(result))}"
    )


def signal_results() -> str:
    """What stands between the marks of docs/signals.md."""
    result = _result("signals_compression.json")
    codec = result["rows"]["ecg-codec"]
    return (
        f"{markdown_table(compression_rows(result))}\n\n"
        "CPU time to encode, on a machine that others use too:\n\n"
        f"{markdown_table(encode_time_rows(result))}\n\n"
        f"A detector after Pan and Tompkins finds {codec['beats agree']:.2%} of the beats it finds"
        " in the original, within 50 ms, at the lowest quality within a PRD of 9 %."
    )


def detector_results() -> str:
    """What stands between the marks of docs/detectors.md."""
    detection = _result("detection.json")
    denoising = _result("signals_denoising.json")
    return (
        f"`{_DENOISING}`: gain of the signal-to-noise ratio.\n\n"
        f"{markdown_table(denoising_rows(denoising))}\n\n"
        f"`{_DETECTION}`: area under the curve.\n\n"
        f"{markdown_table(detection_rows(detection))}\n\n"
        "`beat-detector` on DS2 without record 202, all beats of 15 records pooled:\n\n"
        f"{markdown_table(beat_rows(detection))}"
    )


def _result(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    return found


# Pages, and what stands between the marks of each.
PAGES: Mapping[str, Callable[[], str]] = {
    "README.md": readme_results,
    "GUARANTEES.md": guarantee_results,
    "docs/results.md": all_results,
    "docs/signals.md": signal_results,
    "docs/images.md": lambda: image_results(_result("images.json")),
    "docs/detectors.md": detector_results,
    "docs/performance.md": lambda: markdown_table(outside_rows(_result("outside.json"))),
    "docs/autoencoders.md": lambda: markdown_table(autoencoder_rows(_result("autoencoders.json"))),
    "docs/clusters.md": lambda: markdown_table(throughput_rows(_result("throughput.json"))),
}


def put_results(path: Path, results: str) -> None:
    """Write the results between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{results}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Write the tables of every page and every measured bundle's figures."""
    for page, found in PAGES.items():
        put_results(ROOT / page, found())
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
