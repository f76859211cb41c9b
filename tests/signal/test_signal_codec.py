"""Signals to bytes and back: latents, exact samples, bounds, packets, and damage."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edgeae
from edgeae.bench.signal_codec import made_pulse, self_test
from edgeae.coding.single_lane import encode, put_bits
from edgeae.errors import BitstreamError, UnknownCodec
from edgeae.signal import codec_file as file
from edgeae.signal.codec import Limits, SignalCodec, file_info

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def codec():
    return SignalCodec.load(GOLDEN / "tiny-signal-codec")


@pytest.fixture(scope="module")
def pulse():
    return made_pulse(1500, 360.0)


def test_the_self_test_of_the_command_holds(codec):
    assert len(list(self_test(codec))) == 4


def test_a_folder_of_a_signal_codec_opens_through_the_one_door():
    assert isinstance(edgeae.load(GOLDEN / "tiny-signal-codec"), SignalCodec)


@pytest.mark.parametrize("samples", [1, 15, 16, 17, 700])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", "uint8"])
def test_shape_and_type_come_back(codec, samples, dtype):
    flat = (100 + 50 * np.sin(np.arange(samples) / 9)).astype(dtype)
    for signal in (flat, np.stack([flat, flat[::-1]], axis=1)):
        restored = codec.decompress(codec.compress(signal, quality=7))
        assert restored.shape == signal.shape and restored.dtype == signal.dtype


@pytest.mark.parametrize("quality", [1, 4.5, 9])
def test_bytes_decode_to_what_the_latent_does(codec, pulse, quality):
    signal = np.stack([pulse, -pulse // 2], axis=1)
    blob = codec.compress(signal, quality=quality)
    latent = codec.encode(signal, quality=quality)
    assert codec.pack(latent) == blob
    assert np.array_equal(codec.unpack(blob).symbols, latent.symbols)
    assert np.array_equal(codec.decompress(blob), codec.decode(latent))


def test_higher_quality_takes_more_bytes_and_is_nearer(codec, pulse):
    sizes, errors = [], []
    for quality in (1, 3, 5, 7, 9):
        blob = codec.compress(pulse, quality=quality)
        sizes.append(len(blob))
        errors.append(float(np.square(codec.decompress(blob) - pulse.astype(float)).mean()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_lossless_integers_come_back_exactly_at_the_ends_of_their_type(codec, dtype):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(3)
    for shape in ((1,), (21, 3), (300, 2)):
        signal = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        signal.flat[0] = limits.min
        signal.flat[-1] = limits.max
        assert np.array_equal(codec.decompress(codec.compress(signal, lossless=True)), signal)


def test_lossless_samples_of_several_blocks_and_keys_come_back(codec):
    pulse = made_pulse(9000, 360.0)
    for keys in (None, 5.0):
        blob = codec.compress(pulse, lossless=True, key_seconds=keys)
        assert np.array_equal(codec.decompress(blob), pulse)
        assert file_info(blob)["exact"]


def test_a_predictable_signal_takes_fewer_bits_than_its_differences_would(codec):
    pulse = made_pulse(8000, 360.0)
    bits = 8 * len(codec.compress(pulse, lossless=True)) / len(pulse)
    changes = np.unique(np.diff(pulse), return_counts=True)[1] / (len(pulse) - 1)
    assert bits < -float(np.sum(changes * np.log2(changes)))


def test_a_pulse_without_noise_takes_few_bits():
    codec = SignalCodec.load("ecg-codec")
    time = np.arange(1500) / 360
    pulse = np.rint(200 * np.exp(-(((time * 1.2 % 1 - 0.4) / 0.02) ** 2))).astype(np.int16)
    blob = codec.compress(pulse, lossless=True)
    assert np.array_equal(codec.decompress(blob), pulse)
    assert 8 * len(blob) / len(pulse) < 2


@pytest.mark.parametrize("bound", [0, 1, 2.7, 12])
def test_no_integer_is_further_off_than_the_bound(codec, pulse, bound):
    signal = np.stack([pulse, pulse[::-1]], axis=1)
    restored = codec.decompress(codec.compress(signal, max_error=bound))
    assert np.abs(restored.astype(int) - signal).max() <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bound", [0.001, 0.05])
def test_no_float_is_further_off_than_the_bound(codec, pulse, dtype, bound):
    signal = (pulse / 200).astype(dtype)
    restored = codec.decompress(codec.compress(signal, max_error=bound))
    assert np.abs(restored.astype(np.float64) - signal).max() <= bound


def test_a_looser_bound_takes_fewer_bytes(codec, pulse):
    exact, loose, looser = (len(codec.compress(pulse, max_error=e)) for e in (0, 2, 10))
    assert exact > loose and exact > looser


def test_a_budget_is_kept_and_used(codec, pulse):
    blob = codec.compress(pulse, max_bytes=150)
    assert len(blob) <= 150
    finer = file_info(blob)["quality"] + 1 / 8
    assert len(codec.compress(pulse, quality=finer)) > 150
    with pytest.raises(ValueError, match="max_bytes is 5, expected at least"):
        codec.compress(pulse, max_bytes=5)


def test_names_units_and_rate_are_kept(codec, pulse):
    from edgeae.signal.codec_file import read

    signal = np.stack([pulse, pulse], axis=1)
    blob = codec.compress(signal, sample_rate=250.5, names=["I", "V 1"], units=["mV", ""])
    content = read(blob)
    assert (content.names, content.units) == (("I", "V 1"), ("mV", ""))
    assert file_info(blob)["sample_rate_hz"] == 250.5


def test_signals_without_a_change_and_far_from_zero_are_kept(codec):
    for level in (0.0, 1e6, -3.5e4):
        signal = np.full(100, level, np.float32)
        assert np.allclose(codec.decompress(codec.compress(signal)), signal, rtol=1e-5, atol=1)


@pytest.mark.parametrize(
    ("samples", "error", "match"),
    [
        (np.zeros((2, 2, 2), np.int16), ValueError, "shape"),
        (np.zeros(0, np.int16), ValueError, "shape"),
        (np.zeros(4, np.complex64), TypeError, "complex64"),
        ([1, 2, 3], TypeError, "list"),
        (np.array([0.0, np.nan]), ValueError, "finite"),
    ],
)
def test_what_is_no_signal_is_refused(codec, samples, error, match):
    with pytest.raises(error, match=match):
        codec.compress(samples)


def test_arguments_that_exclude_each_other_are_refused(codec, pulse):
    with pytest.raises(ValueError, match="give one of"):
        codec.compress(pulse, quality=3, lossless=True)
    with pytest.raises(TypeError, match="lossless takes integers"):
        codec.compress(pulse.astype(np.float32), lossless=True)
    with pytest.raises(ValueError, match="max_error is -1"):
        codec.compress(pulse, max_error=-1)
    with pytest.raises(ValueError, match="finer than float32 holds"):
        codec.compress(pulse.astype(np.float32), max_error=1e-9)


@pytest.mark.parametrize("exact", [False, True])
def test_every_cut_and_every_changed_bit_is_refused(codec, exact):
    pulse = made_pulse(200, 360.0)
    blob = codec.compress(pulse, lossless=True) if exact else codec.compress(pulse, quality=3)
    for end in range(len(blob)):
        with pytest.raises(BitstreamError):
            codec.decompress(blob[:end])
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1 << place % 8
        with pytest.raises((BitstreamError, UnknownCodec)):
            codec.decompress(bytes(changed))
    with pytest.raises(BitstreamError):
        codec.decompress(blob + b"\0")


def test_files_over_the_limits_are_refused_before_anything_is_decoded(codec, pulse):
    blob = codec.compress(pulse)
    with pytest.raises(BitstreamError, match="expected at most 100 in all"):
        codec.decompress(blob, limits=Limits(samples=100))
    with pytest.raises(BitstreamError, match="expected at most 10"):
        codec.decompress(blob, limits=Limits(file_bytes=10))


def test_a_file_of_another_codec_is_refused_by_its_id(codec, pulse):
    import zlib

    body = bytearray(codec.compress(pulse)[:-4])
    body[2] ^= 1
    with pytest.raises(UnknownCodec):
        codec.decompress(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))


def test_threads_and_copies_write_the_same_bytes(codec, pulse):
    blob = codec.compress(pulse)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: codec.compress(pulse), range(8))) == {blob}
    for other in (copy.copy(codec), pickle.loads(pickle.dumps(codec))):
        assert other.compress(pulse) == blob


@pytest.mark.parametrize("name", ["latent", "leads", "exact", "keys"])
def test_golden_files_decode_to_what_they_did(codec, name):
    blob = (GOLDEN / "signals" / f"{name}.eae").read_bytes()
    expected = np.load(GOLDEN / "signals" / f"{name}.npy")
    restored = codec.decompress(blob)
    assert restored.shape == expected.shape and restored.dtype == expected.dtype
    # Latents are exact everywhere, what a graph in float32 makes of them is not.
    assert np.abs(restored.astype(int) - expected).max() <= (0 if name == "exact" else 1)


def test_a_number_of_more_than_64_bits_in_a_block_is_refused(codec):
    content = file.read((GOLDEN / "signals" / "latent.eae").read_bytes())
    tables = codec._coder.tables
    header = dataclasses.replace(content.header, codec_id=codec._id)
    # Whatever table the first symbol has: one of these escapes is meant for it.
    for table in range(len(tables.shifts)):
        escape = (int(tables.frequencies[table, -1]), int(tables.starts[table, -1]))
        events = [escape]
        put_bits(events, 63, 6)
        put_bits(events, (1 << 63) - 1, 63)
        with pytest.raises(BitstreamError):
            codec.decompress(file.write(header, [encode(events)]))


@pytest.mark.parametrize(("scale", "offset"), [(0.5, 0.0), (3.0, 0.0), (1.0, 7.0), (2.5, -0.25)])
def test_exact_samples_are_whole_numbers_times_the_scale_plus_the_offset(codec, scale, offset):
    whole = np.arange(-40, 60, dtype=np.int16) * 3
    content = file.read(codec.compress(whole, lossless=True))
    header = dataclasses.replace(
        content.header, codec_id=codec._id, scales=(scale,), offsets=(offset,)
    )
    restored = codec.decompress(file.write(header, [bytes(block) for block in content.blocks]))
    assert np.array_equal(restored, np.rint(whole * scale + offset).astype(np.int16))
