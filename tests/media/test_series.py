"""Signals of every kind of file: names, units, rates, and nothing missing that is passed on."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeae import media
from edgeae.errors import MediaError


def csv(text: str, **options: object) -> media.Series:
    return media.read_series(text.encode(), format="csv", **options)


def wave(samples: int = 500, channels: int = 3) -> np.ndarray:
    t = np.arange(samples)[:, None] / 50
    return (np.sin(t * (1 + np.arange(channels))) * 3.7).astype(np.float32)


def test_a_table_has_names_units_and_a_rate() -> None:
    found = csv("time [ms],pressure [bar],flow (l/min)\n0,1,2\n4,1.5,3\n8,2,4.25\n")
    assert found.samples.dtype == np.float32
    assert found.samples.tolist() == [[1, 2], [1.5, 3], [2, 4.25]]
    assert found.sample_rate_hz == pytest.approx(250)
    assert (found.names, found.units) == (("pressure", "flow"), ("bar", "l/min"))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("t,a\n0,1\n0.5,2\n1.0,3\n", 2), ("time_us,a\n0,1\n500,2\n1000,3\n", 2000),
        ("datetime;a\n2020-03-09 10:14:33;1\n2020-03-09 10:14:34;2\n2020-03-09 10:14:35;3\n", 1),
        ("timestamp,a\n2020-01-01T00:00:00.000Z,1\n2020-01-01T00:00:00.004Z,2\n"
         "2020-01-01T00:00:00.008Z,3\n", 250),
        ("a,b\n1,2\n3,4\n", None), ("1 2\n3 4\n5 6\n", None), ("t,a\n0,1\n", None),
    ],
)  # fmt: skip
def test_rates_come_from_times_of_many_kinds(text: str, rate: float | None) -> None:
    found = csv(text)
    assert found.sample_rate_hz == (None if rate is None else pytest.approx(rate))
    assert found.samples.shape[1] == (2 if rate is None and ("b" in text or "1 2" in text) else 1)


def test_rounded_times_of_an_even_clock_are_even() -> None:
    rows = "\n".join(f"{i / 360:.3f},{i}" for i in range(3000))
    assert csv(f"t,a\n{rows}\n").sample_rate_hz == pytest.approx(360, rel=1e-4)


@pytest.mark.parametrize("times", ["0 1 2 9 10", "0 1 1 2 3", "0 2 1 3 4", "0 1 2 3 nan"])
def test_uneven_times_are_refused_and_a_given_rate_comes_before_them(times: str) -> None:
    text = "t,a\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times.split()))
    with pytest.raises(MediaError, match="expected even|do not rise"):
        csv(text)
    assert csv(text, sample_rate_hz=4).sample_rate_hz == 4


def test_delimiters_decimal_commas_quotes_comments_and_marks_of_encoding() -> None:
    expected = [[1.5, 2], [3, -4e-3]]
    for text in (
        "a;b\n1,5;2\n3;-4e-3\n", "a\tb\n1.5\t2\n3\t-4e-3\n",
        "# made by hand\na,b\n1.5,2\n3,-.004\n",
        '"a","b"\r\n"1.5","2"\r\n"3","-4e-3"\r\n', "\ufeffa,b\n1.5,2\n\n3,-4e-3\n",
    ):  # fmt: skip
        found = csv(text)
        assert np.allclose(found.samples, expected) and found.names == ("a", "b")
    latin = media.read_series("t [s],T [\u00b0C]\n0,1\n1,2\n".encode("cp1252"), format="csv")
    assert latin.units == ("\u00b0C",)


def test_columns_are_chosen_by_name_and_words_are_left_out_by_name() -> None:
    text = "state,b,a\non,1,2\noff,3,4\n"
    found = csv(text)
    assert found.names == ("b", "a")
    assert found.notes == ("columns without numbers were left out: state",)
    assert csv(text, columns=["a"]).samples.tolist() == [[2], [4]]
    assert csv(text, columns=["a", "b"]).samples.tolist() == [[2, 1], [4, 3]]
    with pytest.raises(ValueError, match="no column 'c' .* expected one of state, b, a"):
        csv(text, columns=["c"])
    with pytest.raises(MediaError, match="row 1 of 'state' is 'on', expected a number"):
        csv(text, columns=["state"])
    with pytest.raises(MediaError, match="row 3 has 2 values, expected 3"):
        csv("a,b,c\n1,2,3\n1,2\n")
    with pytest.raises(MediaError, match="row 2 of 'a' is 'x1', expected a number"):
        csv("a\n1\nx1\n")


@pytest.mark.parametrize("word", ["", "NaN", "null", "NA", "-"])
def test_missing_values_are_refused_or_filled_by_the_rule(word: str) -> None:
    text = f"a,b\n{word},1\n2,2\n{word},3\n{word},4\n8,5\n{word},6\n"
    with pytest.raises(MediaError, match=r"4 values are missing .* \(missing\) in row 1 of 'a'"):
        csv(text)
    held = csv(text, missing="hold")
    assert held.samples[:, 0].tolist() == [2, 2, 2, 2, 8, 8]
    assert held.notes == ("4 missing values were filled: hold",)
    even = csv(text, missing="interpolate")
    assert even.samples[:, 0].tolist() == [2, 2, 4, 6, 8, 8]
    with pytest.raises(ValueError, match="missing is 'drop', expected one of refuse"):
        csv(text, missing="drop")
    for rule in ("hold", "interpolate"):
        with pytest.raises(MediaError, match="no value of 'a' is there"):
            csv(f"a,b\n{word},1\n{word},2\n", columns=["a", "b"], missing=rule)


def test_infinite_values_are_never_passed_on() -> None:
    for rule in ("refuse", "hold", "interpolate"):
        with pytest.raises(MediaError, match=r"\(infinite\) in row 2 of 'a'"):
            csv("a\n1\n-inf\n3\n", missing=rule)


def test_a_value_beyond_32_bits_is_refused() -> None:
    with pytest.raises(MediaError, match=r"row 2 of 'a' is -1e\+300, beyond what 32 bits hold"):
        csv("a\n1\n-1e300\n")


def test_what_is_no_table_is_refused() -> None:
    for text in ("a,b\n", "\n\n", "# only\n", "just words\nand more words\n", "\0\1\2\n"):
        with pytest.raises(MediaError):
            csv(text)
    with pytest.raises(MediaError, match="the file is empty"):
        csv("")
    with pytest.raises(ValueError, match=r"suffix .* is '\.xyz', expected one of \.csv"):
        media.read_series("a.xyz")
    with pytest.raises(ValueError, match="format is None"):
        media.read_series(b"1\n")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npz", ".npy"])
@pytest.mark.parametrize("kind", [np.float32, np.int16, np.int32])
def test_what_is_written_comes_back_exactly(tmp_path: Path, suffix: str, kind: type) -> None:
    samples = wave() if kind is np.float32 else (wave() * 5000).astype(kind)
    made = media.Series(samples, 360.0, ("V1", "a, b", "c"), ("mV", "", "bar"))
    path = tmp_path / f"a{suffix}"
    media.write_series(path, made)
    whole = kind is not np.float32
    back = media.read_series(path, integers=whole)
    assert np.array_equal(back.samples, samples)
    assert back.samples.dtype.kind == ("i" if whole else "f")
    if suffix != ".npy":
        assert back.sample_rate_hz == pytest.approx(360.0, rel=1e-9)
        assert (back.names, back.units) == (made.names, made.units)
    buffer = io.BytesIO()
    media.write_series(buffer, made, format=suffix)
    assert np.array_equal(
        media.read_series(buffer.getvalue(), format=suffix, integers=whole).samples, samples
    )


def test_write_series_refuses_other_arrays(tmp_path: Path) -> None:
    for samples in (np.zeros(4), np.zeros((0, 2)), np.array([["a"]])):
        with pytest.raises(ValueError, match="expected numbers"):
            media.write_series(tmp_path / "a.csv", media.Series(samples))
    with pytest.raises(ValueError, match="finite"):
        media.write_series(tmp_path / "a.csv", media.Series(np.full((2, 1), np.nan)))
    with pytest.raises(ValueError, match="1 names and 2 units|expected 2 of both"):
        media.write_series(tmp_path / "a.csv", media.Series(np.ones((2, 2)), names=("a",)))
    with pytest.raises(ValueError, match=r"cannot write \.wav"):
        media.write_series(tmp_path / "a.wav", media.Series(np.ones((2, 2))))
    assert list(tmp_path.iterdir()) == []


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_arrays_are_checked_before_they_are_made() -> None:
    assert media.read_series(npy(np.arange(5.0)), format="npy").samples.shape == (5, 1)
    for array, words in (
        (np.array([{}], dtype=object), "Object arrays"), (np.array(["a"]), "expected numbers"),
        (np.zeros((2, 2, 2)), "expected numbers"), (np.array([2**40]), "beyond 32 bits"),
        (np.zeros((3, 5000)), "is it to be transposed"), (np.zeros((0, 3)), r"holds \(0, 3\)"),
    ):  # fmt: skip
        with pytest.raises(MediaError, match=words):
            media.read_series(npy(array), format="npy")
    huge = npy(np.zeros(4)).replace(b"(4,), }", b"(4000000000,), }"[:7] + b"", 1)
    header = (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 9), }".ljust(117) + "\n"
    )
    huge = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()
    with pytest.raises(MediaError, match="cut off, .* bytes, more than are there"):
        media.read_series(huge, format="npy")
    with pytest.raises(MediaError, match="missing or infinite"):
        media.read_series(npy(np.array([1.0, np.nan])), format="npy")
    with pytest.raises(MediaError, match="no array|not an array"):
        media.read_series(b"no array at all", format="npy")
    with pytest.raises(MediaError, match="not an archive of arrays"):
        media.read_series(b"no archive at all", format="npz")
    with pytest.raises(MediaError, match="not whole numbers"):
        media.read_series(npy(np.array([1.5])), format="npy", integers=True)


def test_an_archive_says_its_rate_under_usual_names() -> None:
    for key in ("sample_rate_hz", "sample_rate", "fs"):
        buffer = io.BytesIO()
        np.savez(buffer, data=wave(), **{key: 125})
        assert media.read_series(buffer.getvalue(), format="npz").sample_rate_hz == 125
    buffer = io.BytesIO()
    np.savez(buffer, a=wave(), b=wave())
    with pytest.raises(MediaError, match="2 arrays, expected one called samples"):
        media.read_series(buffer.getvalue(), format="npz")


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_U8", 8)])
def test_a_wav_gives_its_counts_and_what_they_mean(subtype: str, bits: int) -> None:
    counts = np.array([[0, 5], [-100, 100], [127, -128]])
    buffer = io.BytesIO()
    full = counts.astype(np.int32) << (32 - bits)
    soundfile.write(buffer, full, 4000, format="WAV", subtype=subtype)
    stored = media.read_series(buffer.getvalue(), format="wav", integers=True)
    assert np.array_equal(stored.samples, counts) and stored.sample_rate_hz == 4000
    physical = media.read_series(buffer.getvalue(), format="wav")
    assert np.allclose(physical.samples, stored.samples * stored.scale + stored.offset)
    chosen = media.read_series(buffer.getvalue(), format="wav", columns=["channel_1"])
    assert np.allclose(chosen.samples, physical.samples[:, 1:])


def test_parquet_is_read_with_units_gaps_and_times() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    times = np.datetime64("2024-01-01") + np.arange(5) * np.timedelta64(20, "ms")
    fields = [
        pyarrow.field("time", pyarrow.timestamp("ms")),
        pyarrow.field("x", pyarrow.float64(), metadata={"unit": "g"}),
        pyarrow.field("n", pyarrow.int32()),
        pyarrow.field("word", pyarrow.string()),
    ]
    table = pyarrow.table(
        [
            pyarrow.array(times.astype("datetime64[ms]")),
            [1.0, None, 3.0, 4.0, 5.0],
            [1, 2, 3, 4, 5],
            list("abcde"),
        ],
        schema=pyarrow.schema(fields),
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    found = media.read_series(buffer.getvalue(), format="parquet", missing="interpolate")
    assert found.samples.tolist() == [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]
    assert (found.names, found.units) == (("x", "n"), ("g", ""))
    assert found.sample_rate_hz == pytest.approx(50)
    assert found.notes[0].endswith("left out: word")
    with pytest.raises(MediaError, match="1 values are missing"):
        media.read_series(buffer.getvalue(), format="parquet")
    for damaged in (buffer.getvalue()[:-20], b"PAR1 and nothing else"):
        with pytest.raises(MediaError, match="damaged or no Parquet"):
            media.read_series(damaged, format="parquet")


def wfdb_record(folder: Path, counts: np.ndarray) -> Path:
    """A record of format 16 as two files, made by hand: 200 counts a millivolt, baseline 1024."""
    (folder / "r.dat").write_bytes(counts.astype("<i2").tobytes())
    rows = [f"r {counts.shape[1]} 360 {len(counts)}"]
    for i in range(counts.shape[1]):
        told = int(counts[:, i].sum()) % 65536
        rows.append(f"r.dat 16 200(1024)/mV 12 0 {counts[0, i]} {told} 0 lead{i}")
    (folder / "r.hea").write_text("\n".join(rows) + "\n")
    return folder / "r.hea"


def test_a_wfdb_record_gives_counts_and_millivolts(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    counts = (1024 + 300 * wave(400, 2)).astype(np.int64)
    path = wfdb_record(tmp_path, counts)
    stored = media.read_series(path, integers=True)
    assert np.array_equal(stored.samples, counts) and stored.sample_rate_hz == 360
    physical = media.read_series(path)
    assert (physical.names, physical.units) == (("lead0", "lead1"), ("mV", "mV"))
    assert np.allclose(physical.samples, (counts - 1024) / 200, atol=1e-6)
    assert np.allclose(stored.samples * stored.scale + stored.offset, physical.samples, atol=1e-6)
    assert media.read_series(path, columns=["lead1"]).samples.shape == (400, 1)
    data = bytearray((tmp_path / "r.dat").read_bytes())
    data[50] ^= 16
    (tmp_path / "r.dat").write_bytes(data)
    with pytest.raises(MediaError, match="the checksum of 'lead[01]' is wrong"):
        media.read_series(path)
    (tmp_path / "r.dat").write_bytes(data[:-9])
    with pytest.raises(MediaError):
        media.read_series(path)


def test_missing_samples_of_a_wfdb_record_are_missing(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    counts = np.full((9, 1), 1100)
    counts[4] = -32768
    path = wfdb_record(tmp_path, counts)
    with pytest.raises(MediaError, match="1 values are missing"):
        media.read_series(path)
    assert media.read_series(path, missing="hold").samples[4, 0] == pytest.approx(0.38)
    with pytest.raises(MediaError, match="missing samples, which integers cannot show"):
        media.read_series(path, integers=True)


def test_a_wfdb_header_names_no_files_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    path = wfdb_record(tmp_path, np.full((9, 1), 1100))
    path.write_text(path.read_text().replace("r.dat", "../../etc/passwd"))
    with pytest.raises(MediaError, match="names files of other folders"):
        media.read_series(path)


@pytest.mark.parametrize(("package", "suffix"), [("pyarrow", "parquet"), ("wfdb", "hea")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, suffix: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / f"a.{suffix}").write_text("x")
    with pytest.raises(MediaError, match=r"pip install 'edgeae\[(parquet|wfdb)\]'"):
        media.read_series(tmp_path / f"a.{suffix}")


def test_a_signalling_nan_is_a_missing_value_and_no_warning():
    values = np.array([1.0, 0.0, 3.0], np.float32)
    values.view(np.uint32)[1] = 0x7FA00000
    buffer = io.BytesIO()
    np.save(buffer, values)
    found = media.read_series(buffer.getvalue(), sample_rate_hz=1.0, missing="hold", format=".npy")
    np.testing.assert_array_equal(found.samples[:, 0], [1, 1, 3])
