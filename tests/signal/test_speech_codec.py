"""Speech to bytes and back, whole and packet by packet, by a bundle of a run of two steps."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

import edgeae
from edgeae.bench.speech_codec import made_talk
from edgeae.coding import container
from edgeae.errors import BitstreamError, BundleError, EdgeaeError, UnknownCodec
from edgeae.signal import codec_file as file
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import Ear, Voice
from edgeae.signal.speech_silence import hushed
from edgeae.signal.speech_stream import Listener

GOLDEN = Path(__file__).parent.parent / "golden"
BUNDLE = GOLDEN / "tiny-speech-codec"


@pytest.fixture(scope="module")
def codec():
    return edgeae.load(BUNDLE)


@pytest.fixture(scope="module")
def talk():
    """A second and a bit, float32 (17,001,)."""
    return made_talk(17_001)


def test_a_file_comes_back_in_its_shape_and_type(codec, talk):
    sizes = []
    for quality in (1, 5, 9):
        blob = codec.compress(talk, sample_rate=16_000, quality=quality)
        assert blob == codec.compress(talk, quality=quality)
        restored = codec.decompress(blob)
        assert restored.shape == talk.shape and restored.dtype == np.float32
        assert np.isfinite(restored).all() and np.array_equal(restored, codec.decompress(blob))
        sizes.append(len(blob))
    assert sizes[0] < sizes[2]
    for samples in (1, 319, 320, 321):
        assert codec.decompress(codec.compress(talk[:samples])).shape == (samples,)
    both = np.stack([talk, talk[::-1]], axis=1)
    whole = np.rint(32767 * both).astype(np.int16)
    found = codec.decompress(codec.compress(whole, quality=3))
    assert found.dtype == np.int16 and found.shape == both.shape
    alone = codec.decompress(codec.compress(whole[:, 1], quality=3))
    assert np.array_equal(found[:, 1], alone)
    assert len(codec.compress(talk, max_bytes=sizes[1])) <= sizes[1]


def test_files_longer_than_a_block_go_on(codec, talk):
    long = np.tile(talk, 8)[: 320 * 400 + 7]
    restored = codec.decompress(codec.compress(long, quality=2))
    short = codec.decompress(codec.compress(long[:64_000], quality=2))
    assert restored.shape == long.shape
    # Nothing later bears on what came before.
    assert np.allclose(restored[:63_000], short[:63_000], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_stream_says_what_the_file_says(codec, talk, frames):
    whole = codec.decompress(codec.compress(talk, quality=5))
    sender = codec.stream(quality=5, packet_frames=frames)
    packets, rng = [], np.random.default_rng(0)
    begin = 0
    while begin < len(talk):
        end = begin + int(rng.integers(1, 900))
        packets += sender.send(talk[begin:end])
        begin = end
    packets += sender.end()
    receiver = codec.listen(sender.opening)
    said = np.concatenate([receiver.receive(packet) for packet in packets])
    assert len(packets) == -(-(len(talk) + 320) // (320 * frames)) and said.dtype == np.float32
    # Rounding may lean otherwise where a packet begins, as it knows less.
    steps = said[320:][: len(talk)] - whole
    assert np.sqrt(np.mean(steps**2)) < 0.5 * np.sqrt(np.mean(whole**2))
    again = codec.listen(sender.opening)
    assert np.array_equal(said, np.concatenate([again.receive(packet) for packet in packets]))


def test_it_makes_no_difference_how_many_frames_come_at_a_time(talk):
    frames = np.concatenate([talk, np.zeros(599, np.float32)]).reshape(-1, 320)
    ear, voice = Ear(), Voice()
    whole = ear.hear(frames)
    spectra = voice.speak(whole[2])
    said = voice.join(spectra[0] + spectra[1])
    assert len(set(whole[2])) > 3
    ear, voice, begin = Ear(), Voice(), 0
    for count in (1, 1, 5, 20, len(frames) - 27):
        here = slice(begin, begin + count)
        heard = ear.hear(frames[here])
        assert all(np.array_equal(a, b[here]) for a, b in zip(heard, whole, strict=True))
        parts = voice.speak(heard[2])
        assert all(np.array_equal(a, b[here]) for a, b in zip(parts, spectra, strict=True))
        assert np.array_equal(voice.join(parts[0] + parts[1]), said[here])
        begin += count


def test_lost_packets_are_concealed_without_clicks_and_silence_follows_a_long_gap(codec, talk):
    sender = codec.stream(quality=5, packet_frames=1)
    packets = [*sender.send(talk), *sender.end()]
    assert len(packets) == 55
    receiver = codec.listen(sender.opening)
    said = [receiver.receive(packet) for packet in packets[:20]]
    said.append(receiver.receive(packets[23]))
    assert len(said[-1]) == 4 * 320
    # What was given up is not said any more.
    assert len(receiver.receive(packets[21])) == len(receiver.receive(packets[23])) == 0
    said.append(receiver.lost(20))
    assert np.abs(said[-1][-320 * 5 :]).max() == 0 < np.abs(said[-1][:320]).max()
    said.append(receiver.receive(packets[44]))
    assert len(said[-1]) == 320 and np.isfinite(np.concatenate(said)).all()
    # A gain that comes and goes leaves no edge: the first sample after the gap is nearly silent.
    assert abs(said[-1][0]) < 0.02 * np.abs(said[-1]).max() + 1e-6


def test_a_short_gap_leads_to_the_packet_behind_it_and_a_longer_one_is_concealed(talk):
    codec = SpeechCodec.load("speech-codec")
    sender = codec.stream(quality=7, packet_frames=1)
    # Loud and soft by turns: what was is not what comes.
    turns = 10 ** (0.7 * np.sin(2 * np.pi * 3.1 * np.arange(len(talk)) / 16_000) - 0.7)
    packets = sender.send(talk * turns.astype(np.float32))

    def heard(gap, *, told):
        receiver = codec.listen(sender.opening)
        said = [receiver.receive(packet) for packet in packets[: gap.start]]
        said += [receiver.lost(told)] if told else []
        said += [receiver.receive(packet) for packet in packets[gap.stop :]]
        return np.concatenate(said)

    def spectra(audio):
        windows = np.lib.stride_tricks.sliding_window_view(audio, 512)[::160] * np.hanning(512)
        return np.log(np.abs(np.fft.rfft(windows)) + 1e-2)

    whole = heard(range(0), told=0)
    far = {0: 0.0, 3: 0.0}
    for begin in range(6, 42, 6):
        for told in far:
            audio = heard(range(begin, begin + 3), told=told)
            assert len(audio) == len(whole)
            far[told] += np.abs(spectra(audio) - spectra(whole)).mean()
    assert far[0] < 0.9 * far[3]
    for begin, count, told in ((10, 7, 7), (10, 5, 2)):
        gap = range(begin, begin + count)
        receiver = codec.listen(sender.opening)
        for packet in packets[:begin]:
            receiver.receive(packet)
        parts = [receiver.lost(1) for _ in range(told)]
        parts += [receiver.receive(packets[gap.stop])]
        said = np.concatenate(parts)
        after = heard(gap, told=count)[320 * begin :]
        np.testing.assert_allclose(said, after[: len(said)], atol=1e-5)


def test_a_stream_is_heard_again_after_a_gap_that_its_numbers_do_not_tell(codec):
    sender = codec.stream(packet_frames=1)
    packets = sender.send(made_talk(320 * 200))
    receiver = codec.listen(sender.opening)
    for packet in packets[:20]:
        receiver.receive(packet)
    # A few that come twice, in their order or not, are not taken for that.
    for number in (5, 6, 7, 8, 9, 10, 11, 3, 4, 5, 6, 19, 19, 19, 19, 19, 19, 19, 19, 19):
        assert len(receiver.receive(packets[number])) == 0
    assert [len(receiver.receive(packet)) for packet in packets[20:23]] == [320] * 3
    lengths = [len(receiver.receive(packet)) for packet in packets[100:120]]
    assert lengths == [0] * 7 + [320] * 13
    assert len(receiver.receive(packets[122])) == 3 * 320


def test_silence_is_sent_now_and_then_with_dtx_and_what_follows_it_begins_at_once(talk):
    codec = SpeechCodec.load("speech-codec")
    pause = np.random.default_rng(0).integers(-1, 2, 320 * 150).astype(np.float32) / 32768
    audio = np.concatenate([talk[:16_000], pause, talk[:16_000]])
    all_packets = (sender := codec.stream(packet_frames=1)).send(audio)
    quiet = codec.stream(packet_frames=1, dtx=True)
    assert quiet.opening == sender.opening
    packets, said, every = [], [], []
    listening, filling = codec.listen(quiet.opening), codec.listen(quiet.opening)
    for i in range(len(audio) // 320):
        sent = quiet.send(audio[320 * i : 320 * (i + 1)])
        # What is sent is what is sent without it.
        assert sent in ([], [all_packets[i]])
        said += [listening.receive(packet) for packet in sent] or [listening.lost()]
        # A receiver that does not know the time fills the gaps by the numbers.
        every += [filling.receive(packet) for packet in sent]
        packets += sent
    there = np.isin(all_packets, packets)
    assert there[:58].all() and there[200:].all() and there[58:200].sum() == 4
    heard, silence = np.concatenate(said), slice(320 * 56, 320 * 200)
    assert np.allclose(heard, np.concatenate(every), atol=1e-6)
    assert np.sqrt(np.square(heard[silence].reshape(-1, 320)).mean(axis=1)).max() < 1e-4
    # Nothing is taken from the first syllable after it.
    whole = codec.listen(sender.opening)
    known = np.concatenate([whole.receive(packet) for packet in all_packets])
    after = slice(320 * 200, 320 * 205)
    energy = np.square(heard[after]).sum()
    assert energy == pytest.approx(np.square(audio[320 * 199 : 320 * 204]).sum(), rel=0.3)
    assert energy > 0.9 * np.square(known[after]).sum()
    assert len(quiet.send(np.zeros(320 * 20, np.float32))) == 8 and len(quiet.end()) == 1


def test_silence_that_is_spoken_on_does_not_become_a_hum(talk):
    codec = SpeechCodec.load("speech-codec")
    sender = codec.stream(quality=1, dtx=True)
    packets = sender.send(np.concatenate([talk[:8_000], np.zeros(320 * 100, np.float32)]))
    receiver = codec.listen(sender.opening)
    said = np.concatenate([receiver.receive(packet) for packet in packets])
    quiet = said[8_000 + 5 * 320 :]
    quiet = quiet[: len(quiet) // 320 * 320].reshape(-1, 320)
    assert len(quiet) > 60 and np.sqrt(np.square(quiet).mean(axis=1)).max() < 1e-4
    # Speech is spoken on as it was.
    receiver = codec.listen(sender.opening)
    said = np.concatenate([receiver.receive(packet) for packet in packets[:10]])
    assert np.abs(receiver.lost()).max() > 0.3 * np.abs(said[-320:]).max()


def test_packets_longer_than_the_pause_between_those_of_silence_are_all_sent(codec):
    sender = codec.stream(packet_frames=40, dtx=True)
    assert len(sender.send(np.zeros(320 * 400, np.float32))) == 10


def test_pieces_of_a_stream_that_cannot_be_are_refused(codec, talk):
    sender = codec.stream(packet_frames=2, number=7, channels=2, dtype="int16")
    packets = sender.send(np.stack([talk, talk], axis=1))
    receiver = codec.listen(sender.opening)
    assert receiver.receive(packets[0]).shape == (640, 2)
    other = codec.stream(packet_frames=2, number=8, channels=2)
    for wrong in (packets[1][:-1], b"", sender.opening, other.send(np.zeros((640, 2)))[0]):
        with pytest.raises(BitstreamError):
            receiver.receive(wrong)
    for byte in range(len(packets[1])):
        damaged = bytearray(packets[1])
        damaged[byte] ^= 4
        with pytest.raises(BitstreamError):
            receiver.receive(bytes(damaged))
    with pytest.raises(BitstreamError):
        codec.listen(packets[0])
    with pytest.raises(ValueError, match="audio has 1 channels, expected 2"):
        sender.send(talk)
    for wrong in (None, "ab", np.frombuffer(packets[1], np.uint8)):
        with pytest.raises(TypeError, match="expected bytes"):
            receiver.receive(wrong)
    assert receiver.receive(bytearray(packets[1])).shape == (640, 2)
    assert repr(receiver) == (
        "<SpeechReceiver: 2 channels at 16000 Hz, packets of 40 ms, 60 ms delay>"
    )
    assert "<SpeechSender: 1 channel at" in repr(codec.stream())
    with pytest.raises(TypeError, match="dtx is 'no'"):
        codec.stream(dtx="no")


def test_damage_is_found_and_strangers_are_refused_by_name(codec, talk):
    blob = codec.compress(talk[:3000], quality=3)
    for cut in range(len(blob)):
        with pytest.raises(BitstreamError):
            codec.decompress(blob[:cut])
    for byte in range(len(blob)):
        damaged = bytearray(blob)
        damaged[byte] ^= 1
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(damaged))
    body = bytearray(blob[:-4])
    body[2:6] = b"ABCD"
    with pytest.raises(UnknownCodec):
        codec.decompress(container.sealed(bytes(body)))


def test_misuse_is_told(codec, talk):
    for arguments, message in (
        ({"sample_rate": 8000}, "sample_rate is 8000, expected 16000"),
        ({"quality": 0}, "quality is 0"),
        ({"quality": 3, "max_bytes": 100}, "one of quality and max_bytes"),
        ({"max_bytes": 10}, "expected at least"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.compress(talk, **arguments)
    with pytest.raises(ValueError, match="at least one sample"):
        codec.compress(talk[:0])
    with pytest.raises(ValueError, match="NaN"):
        codec.compress(np.full(400, np.nan, np.float32))
    for arguments, message in (
        ({"packet_frames": 0}, "packet_frames is 0"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"number": 128}, "number is 128"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.stream(**arguments)


def test_silence_is_finite_and_costs_less_than_speech(codec, talk):
    silent = codec.compress(np.zeros_like(talk), quality=5)
    assert np.isfinite(codec.decompress(silent)).all()
    assert len(silent) < len(codec.compress(talk, quality=5))


def test_silence_up_to_a_blocks_end_costs_nothing_and_stays_silent(talk):
    codec = SpeechCodec.load("speech-codec")
    word = len(codec.compress(talk, quality=4.125))
    dither = np.random.default_rng(0).integers(-1, 2, 16_000) / 32768
    pause = np.concatenate([talk, dither, np.zeros(16 * 16_000 - len(talk))]).astype(np.float32)
    blob = codec.compress(np.concatenate([pause, talk]), quality=4.125)
    first, second, _ = file.read(blob).blocks
    # The few frames in which silence begins have some.
    assert len(first) < word + 50 and len(second) == 0
    said = codec.decompress(blob)
    # Windows of the speech behind it begin before it.
    assert np.abs(said[len(talk) + 16_000 : len(pause) - 640]).max() < 5e-4
    rest = np.sqrt(np.mean(said[len(pause) :] ** 2) / np.mean(talk**2))
    assert 0.5 < rest < 2


def test_symbols_of_silence_that_would_be_heard_stay_as_they_are():
    codec = edgeae.load("speech-codec")
    frames = np.zeros((60, 320), np.float32)
    frames[:20] = made_talk(6400).reshape(20, 320)
    level = codec.coder.steps.shape[0] // 2
    heard = Listener(codec, level).hear(frames)
    symbols = codec.coder.quantize(heard, level, [slice(0, 60)])
    cheap = hushed(codec, frames, symbols, level, [60])
    assert np.array_equal(cheap[:, :23], symbols[:, :23]) and not np.array_equal(cheap, symbols)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeae.signal.speech_silence._HEARD", 0.0)
        assert np.array_equal(hushed(codec, frames, symbols, level, [60]), symbols)
    # Neither what is spoken into nor silence in the middle of a block is another.
    frames[-1] = frames[5]
    assert np.array_equal(hushed(codec, frames, symbols, level, [60]), symbols)


def test_a_codec_is_copied_by_its_path(codec, talk):
    other = copy.deepcopy(codec)
    assert other.compress(talk) == codec.compress(talk) and "40 ms" in repr(other)
    assert set(codec.report()["graphs"]) == set(codec.graphs)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("latent.model", "flow", "model is 'flow', expected 'pulses-and-noise'"),
        ("latent.slices", [2, 6], "slices are"),
        ("latent.reach", 0, "reach is 0"),
        ("layout.sample_rate_hz", 8000, "sample_rate_hz is 8000, expected 16000"),
        ("stream.encoder_state", {"memory0": [1, "x"]}, "encoder_state has"),
        ("stream.decoder_state", {"memory0": [1, 17]}, "decoder.fp32.onnx takes"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path, key, value, message):
    copied = tmp_path / "copy"
    shutil.copytree(BUNDLE, copied)
    section, name = key.split(".")

    def change(manifest):
        manifest[section][name] = value
        files = {
            role: {"fp32": graph["fp32"]["file"]} for role, graph in manifest["graphs"].items()
        }
        manifest["codec_id"] = tiny.codec_id(copied, manifest["latent"], files)

    tiny.change_manifest(copied, change)
    with pytest.raises(BundleError, match=message):
        SpeechCodec.load(copied)


def test_a_few_frames_have_the_distributions_of_many_whatever_came_before():
    contexts = SpeechCodec.load("speech-codec").coder.contexts
    rng = np.random.default_rng(0)
    frames = rng.integers(-9, 10, (contexts.channels, 6)).astype(np.int32)
    asked = []
    for count, level in ((1, 20), (1, 20), (1, 64), (4, 20), (1, 20)):
        asked += [(contexts.past(), frames[:, :count], level)]
        # Some slices as they were, some not.
        for begin in (1, contexts.channels // 2):
            changed = frames[:, :count].copy()
            changed[begin:] += 1
            asked += [(contexts.past(), changed, level)]
    past = contexts.past()
    past.add(frames[:, :4])
    asked += [(past, frames[:, 4:], 20), (past, frames[:, 4:5], 20)]
    few = [contexts.distribution(*one) for one in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeae.signal.speech_contexts._FEW_FRAMES", 0)
        many = [contexts.distribution(*one) for one in asked]
    for one, other in zip(few, many, strict=True):
        assert np.array_equal(one.index, other.index)
        assert np.array_equal(one.middle, other.middle)
    assert len({one.middle.tobytes() for one in few}) > 8


def test_what_an_error_left_half_done_is_not_used_again():
    contexts = SpeechCodec.load("speech-codec").coder.contexts
    frames = np.arange(contexts.channels, dtype=np.int32)[:, None] % 5 * np.ones((1, 3), np.int32)

    def fail():
        raise KeyboardInterrupt

    contexts.distribution(contexts.past(), 0 * frames, 20)
    (bound,) = contexts._idle[3, 3]
    bound._summarize, summarize = fail, bound._summarize
    with pytest.raises(KeyboardInterrupt):
        contexts.distribution(contexts.past(), frames, 20)
    bound._summarize = summarize
    found = contexts.distribution(contexts.past(), frames, 20)
    fresh = SpeechCodec.load("speech-codec").coder.contexts
    known = fresh.distribution(fresh.past(), frames, 20)
    assert np.array_equal(found.middle, known.middle)


def test_a_golden_file_has_its_symbols(codec):
    content = file.read((GOLDEN / "speech" / "talk.eae").read_bytes())
    known = np.load(GOLDEN / "speech" / "talk.npy")
    (block,) = content.blocks
    past = codec.coder.contexts.past()
    found = codec.coder.decode(past, known.shape[1], bytes(block), content.header.level)
    assert np.array_equal(found, known)


def test_the_codec_that_ships_says_what_it_was_told_in_few_bits():
    codec = SpeechCodec.load("speech-codec")
    talk = made_talk(32_000)
    blob = codec.compress(talk, quality=4.125)
    assert 8 * len(blob) < 4500 * 2
    said = codec.decompress(blob)
    # Its phases are its own; how loud it is when and where is what it was told.
    powers = [
        np.abs(np.fft.rfft(x.reshape(-1, 400), axis=1))[:, :80].reshape(-1, 10, 8).sum(-1)
        for x in (talk, said)
    ]
    there = powers[0] > 0.03 * powers[0].max()
    far = np.log(powers[1][there] + 1e-3) - np.log(powers[0][there] + 1e-3)
    assert there.sum() > 50 and np.abs(far).mean() < 0.6
    assert np.abs(codec.decompress(codec.compress(np.zeros(8000, np.float32)))).max() < 1e-3


def test_a_bound_graph_that_gives_another_shape_fails(codec):
    history = codec.graphs["context0"]
    setting = np.zeros((1, 1, 1, 1), np.float32)
    known = np.ones((1, history.inputs[1].shape[1], 1, 5), np.float32)
    (wanted,) = history(setting, known)
    found = np.zeros_like(wanted)
    history.bind([setting, known], [found])()
    assert np.array_equal(found, wanted) and wanted.any()
    for steps in (4, 6):
        longer = np.zeros((*wanted.shape[:3], steps), np.float32)
        with pytest.raises(EdgeaeError, match="context0"):
            history.bind([setting, known], [longer])()
    with pytest.raises(ValueError, match="output 'summary'"):
        history.bind([setting, known], [np.zeros((*wanted.shape[:3], 0), np.float32)])
