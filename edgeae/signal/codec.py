"""The signal codec: signals of any number of leads to bytes and back, through one bundle.

`compress` reads from top to bottom: scaling, analysis graph, rounding, entropy coding, file.
`decompress` goes the same way back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.coding.container import as_bytes
from edgeae.coding.rate import (
    DEFAULT_QUALITY,
    LEVELS,
    finest_that_fits,
    level_of_quality,
    quality_of_level,
)
from edgeae.errors import BitstreamError, BundleError, UnknownCodec
from edgeae.opening import graph_of, report_of
from edgeae.providers import Provider
from edgeae.runtime import CPU, Graph
from edgeae.signal import codec_file as file
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.codec_file import SignalFile
from edgeae.signal.codec_graphs import Transforms, check_ports
from edgeae.signal.codec_header import Header, Limits
from edgeae.signal.codec_input import FILE_STEPS, key_steps, prepared, segments_of, spread_mask
from edgeae.signal.codec_latent import SignalLatent, latent_spec, read_tables
from edgeae.signal.codec_packets import gather
from edgeae.signal.contexts import Contexts, Symbols
from edgeae.signal.exact_samples import as_dtype, exact_blocks, read_exact

__all__ = ["Limits", "SignalCodec", "SignalLatent", "file_codec_id", "file_info"]

STRIDE = 16

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class SignalCodec:
    """A learned codec of sensor signals; safe to use from many threads.

    >>> codec = SignalCodec.load("ecg-codec")  # doctest: +SKIP
    >>> blob = codec.compress(samples, sample_rate=360, quality=4)  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        if (manifest := bundle.manifest).task != "codec":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a codec")
        if (kind := manifest.layout.get("kind")) != "signal":
            raise BundleError(f"{manifest.name} is a codec of {kind!r}, expected 'signal'")
        self.bundle = bundle
        self.precision = bundle.precision(precision)
        self._settings = {
            "precision": precision,
            "providers": providers,
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self._id = bytes.fromhex(manifest.codec_id or "")
        rate = manifest.layout.get("sample_rate_hz")
        if not isinstance(rate, int | float) or not 0 < rate < 1e9:
            raise BundleError(
                f"{manifest.name}: layout.sample_rate_hz is {rate!r}, expected a rate"
            )
        self.sample_rate_hz = float(rate)
        self._spec = spec = latent_spec(bundle)
        tables, self._exact_tables, steps = read_tables(bundle, spec)

        graph = functools.partial(
            graph_of,
            bundle,
            precision=self.precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

        encoder, decoder = graph("encoder"), graph("decoder")
        # The context graphs are exact integer arithmetic on the CPU, whatever runs the rest.
        roles = [f"context{i}" for i in range(1 + len(spec.slices))]
        contexts = [
            Graph(bundle.graph(role, "fp32"), providers=[CPU], threads=threads) for role in roles
        ]
        check_ports(spec, encoder, decoder, contexts)
        self._contexts = contexts
        self._transforms = Transforms(spec, encoder, decoder)
        model = Contexts(spec.slices, spec.rule, spec.reach, contexts)
        self._coder = LatentCoder(model, tables, steps)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> SignalCodec:
        """The codec of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or what else the bundle has for encoder and decoder.
            providers: those of `Graph` for encoder and decoder, as are `device`, `threads` and
                `strict`.

        Raises:
            BundleError: not there, damaged, or not a codec of signals.
            ProviderError: a provider is not available or takes no node.
        """
        return cls(
            find(model),
            precision=precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

    def compress(
        self,
        samples: Array,
        *,
        sample_rate: float | None = None,
        quality: float | None = None,
        max_bytes: int | None = None,
        max_error: float | None = None,
        lossless: bool = False,
        key_seconds: float | None = None,
        names: Sequence[str] = (),
        units: Sequence[str] = (),
    ) -> bytes:
        """The bytes of a signal, as an .eae file holds them.

        Args:
            samples: (samples,) or (samples, leads); int8, int16, int32, uint8, uint16, float32 or
                float64.
            sample_rate: in Hz, kept in the file; None is that of the model's training data.
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if none of these is given.
            max_bytes: the finest level whose file is not larger.
            max_error: no sample is further from its original than this, in units of the input.
            lossless: every whole number comes back as it was.
            key_seconds: so often a block stands alone; None leans on all that came before.
            names, units: of the leads, kept in the file.

        Raises:
            TypeError, ValueError: samples or an argument are not as above, or even the coarsest
                level does not fit into `max_bytes`, or the file would be over its readers' limits.
        """
        signal, header = prepared(samples, self._id, self._rate(sample_rate), names, units)
        given = [x is not None for x in (quality, max_bytes, max_error)] + [lossless]
        if sum(given) > 1:
            raise ValueError("give one of quality, max_bytes, max_error and lossless")
        keys = key_steps(key_seconds, header.sample_rate_hz)
        if lossless:
            return file.readable(self._exact(signal, header, keys, names, units))
        if max_error is not None:
            return file.readable(self._bounded(signal, header, max_error, keys, names, units))

        def write(level: int) -> bytes:
            latent = self._encoded(signal, header, level, segments_of(header.samples, keys))
            return self._file(latent, keys, names, units)

        if max_bytes is not None:
            return file.readable(finest_that_fits(write, max_bytes))
        asked = DEFAULT_QUALITY if quality is None else quality
        return file.readable(write(level_of_quality(asked)))

    def decompress(self, blob: bytes, *, limits: Limits | None = None) -> Array:
        """The signal of a file, of the shape and type that `compress` was given.

        Raises:
            TypeError: blob is no bytes.
            BitstreamError: not a file of a signal, cut off, damaged or over a limit.
            UnknownCodec: another codec wrote it.
        """
        content = file.read(as_bytes(blob), limits)
        self._check_id(content.header.codec_id)
        if content.header.exact:
            return read_exact(self._exact_tables, content)
        return self.decode(self._latent(content))

    def encode(
        self, samples: Array, *, sample_rate: float | None = None, quality: float = DEFAULT_QUALITY
    ) -> SignalLatent:
        """The latent of a signal: what `compress` at this quality writes.

        Raises:
            TypeError, ValueError: as for `compress`.
        """
        signal, header = prepared(samples, self._id, self._rate(sample_rate))
        level = level_of_quality(quality)
        return self._encoded(signal, header, level, segments_of(header.samples, 0))

    def decode(self, latent: SignalLatent) -> Array:
        """The signal of a latent, of the shape and type that `encode` was given.

        Raises:
            TypeError, ValueError: shape, level or values are not those of this codec's latents.
        """
        self._check_latent(latent)
        steps = self._coder.steps[latent.level][:, None]
        found = np.empty((latent.samples, len(latent.symbols)), np.float64)
        for lead, symbols in enumerate(latent.symbols):
            signal = self._transforms.synthesize(
                (symbols * steps).astype(np.float32), latent.level
            )[: latent.samples]
            found[:, lead] = signal * latent.scales[lead] + latent.offsets[lead]
        restored = as_dtype(found, latent.dtype)
        return restored[:, 0] if latent.flat else restored

    def pack(self, latent: SignalLatent) -> bytes:
        """The bytes of a latent: what `compress` writes of a signal with this latent.

        Raises TypeError, ValueError: as for `decode`.
        """
        self._check_latent(latent)
        return self._file(latent, 0, (), ())

    def unpack(self, blob: bytes, *, limits: Limits | None = None) -> SignalLatent:
        """The latent of a file.

        Raises:
            TypeError, BitstreamError, UnknownCodec: as for `decompress`.
            ValueError: the file holds exact samples, which have no latent.
        """
        content = file.read(as_bytes(blob), limits)
        self._check_id(content.header.codec_id)
        if content.header.exact:
            raise ValueError("the file holds exact samples, expected a latent")
        return self._latent(content)

    def packets(
        self,
        samples: Array,
        *,
        sample_rate: float | None = None,
        quality: float = DEFAULT_QUALITY,
        packet_seconds: float = 2.8,
        key_seconds: float | None = None,
        number: int = 0,
    ) -> list[bytes]:
        """The signal in packets: the first opens it, each other holds a block. See `receive`.

        Args:
            samples: as for `compress`.
            sample_rate, quality: as for `compress`.
            packet_seconds: length of a block, rounded to steps of 16 samples.
            key_seconds: so often a block stands alone and those between lean on the ones before
                them, which takes fewer bytes; None lets every block stand alone.
            number: 0 to 127; count it up so that signals that follow each other are told apart.

        Raises:
            TypeError, ValueError: samples or an argument are not as above.
        """
        signal, header = prepared(samples, self._id, self._rate(sample_rate))
        if type(number) is not int or not 0 <= number <= 127:
            raise ValueError(f"number is {number!r}, expected 0 to 127")
        steps = key_steps(packet_seconds, header.sample_rate_hz, "packet_seconds")
        if not 1 <= steps <= FILE_STEPS:
            raise ValueError(
                f"packet_seconds is {packet_seconds}, which is {steps} steps of 16 samples, "
                f"expected 1 to {FILE_STEPS}"
            )
        keys = key_steps(key_seconds, header.sample_rate_hz)
        key_blocks = max(1, round(keys / steps))
        level = level_of_quality(quality)
        segments = segments_of(header.samples, key_blocks * steps)
        latent = self._encoded(signal, header, level, segments)
        head = self._header_of(latent, steps, key_blocks)
        opening = file.write_opening(head, number)
        check = file.read_opening(opening, self._id).check
        blocks = self._blocks(latent, steps, key_blocks)
        return [opening, *(file.write_block_packet(i, b, check) for i, b in enumerate(blocks))]

    def receive(
        self, packets: Iterable[bytes], *, limits: Limits | None = None
    ) -> tuple[Array, Mask]:
        """The signal of the packets that arrived, and a mask (samples,) of what is not exact.

        Packets may be lost, doubled, damaged, and about 60 places from their own; only the one that
        opens the signal must be there, anywhere. Where a block leans on one that is lost, all is
        lost up to the next that stands alone. What is lost is the middle of its lead; the mask is
        True wherever a sample may not be what all packets would give.

        Raises:
            TypeError: something that is no bytes.
            BitstreamError: no packet opens a signal of this codec, or a block does not hold what it
                must.
        """
        received = gather(packets, self._id, limits or Limits())
        header, blocks = received.header, received.blocks
        leads, steps = header.channels, header.block_steps
        total = -(-header.samples // STRIDE) if header.samples else received.count * steps
        symbols = np.zeros((leads, self._spec.channels, total), np.int32)
        lost = np.ones(total, np.bool_)
        # Without further keys only the first block stands alone.
        key = header.key_blocks or received.count
        expected = -1
        for number, block in sorted(blocks.items()):
            if number % key == 0:
                pasts = [self._coder.contexts.past() for _ in range(leads)]
            elif number != expected:
                continue
            expected = number + 1
            here = slice(number * steps, min(total, (number + 1) * steps))
            length = here.stop - here.start
            for lead, part in enumerate(file.split(block, leads)):
                symbols[lead, :, here] = self._coder.decode(pasts[lead], length, part, header.level)
            lost[here] = False
        samples = header.samples or total * STRIDE
        restored = self.decode(_latent_of(header, symbols, samples))
        return restored, spread_mask(lost, self._spec.decoder_halo, samples)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        contexts = {f"context{i}": graph for i, graph in enumerate(self._contexts)}
        return {
            "encoder": self._transforms.encoder,
            "decoder": self._transforms.decoder,
            **contexts,
        }

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return report_of(self.bundle, self.precision, self.graphs)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        return (
            f"<SignalCodec {manifest.name} {manifest.version}: {self._spec.channels} latent "
            f"channels of {STRIDE} samples, {self.precision}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be copied: a copy opens the bundle's directory again.
        return reopened, (SignalCodec, self.bundle.path, self.bundle.id, self._settings)

    # --- what the verbs are made of ---------------------------------------------------------------

    def _rate(self, sample_rate: float | None) -> float:
        return self.sample_rate_hz if sample_rate is None else sample_rate

    def _encoded(
        self, signal: Array, header: Header, level: int, segments: Sequence[slice]
    ) -> SignalLatent:
        """The latent at a level; every segment begins with a key."""
        missing = -len(signal) % STRIDE
        found = []
        for lead, (offset, scale) in enumerate(zip(header.offsets, header.scales, strict=True)):
            values = (signal[:, lead].astype(np.float64) - offset) / scale
            padded = np.pad(values, (0, missing), mode="edge").astype(np.float32)
            latents = self._transforms.analyze(padded, level)
            found.append(self._coder.quantize(latents, level, segments))
        return _latent_of(header, np.stack(found), header.samples, level)

    def _header_of(self, latent: SignalLatent, block_steps: int, key_blocks: int) -> Header:
        return Header(
            self._id,
            latent.level,
            latent.dtype,
            len(latent.symbols),
            latent.flat,
            latent.samples,
            latent.sample_rate_hz,
            block_steps,
            key_blocks,
            latent.offsets,
            latent.scales,
        )

    def _file(
        self, latent: SignalLatent, keys: int, names: Sequence[str], units: Sequence[str]
    ) -> bytes:
        # Between keys blocks go on; without any, blocks are as long as they may be.
        steps, key_blocks = (min(keys, FILE_STEPS), 1) if keys else (FILE_STEPS, 0)
        header = self._header_of(latent, steps, key_blocks)
        return file.write(header, self._blocks(latent, steps, key_blocks), names, units)

    def _blocks(self, latent: SignalLatent, steps: int, key_blocks: int) -> list[bytes]:
        """The blocks of all leads."""
        leads = [
            self._coder.encode_all(symbols, latent.level, steps, key_blocks)
            for symbols in latent.symbols
        ]
        return [file.join(parts) for parts in zip(*leads, strict=True)]

    def _latent(self, content: SignalFile) -> SignalLatent:
        """The latent of a file."""
        header, coder = content.header, self._coder
        total = -(-header.samples // STRIDE)
        symbols = np.zeros((header.channels, self._spec.channels, total), np.int32)
        for i, block in enumerate(content.blocks):
            if i == 0 or (header.key_blocks and i % header.key_blocks == 0):
                pasts = [coder.contexts.past() for _ in range(header.channels)]
            begin = i * header.block_steps
            steps = min(header.block_steps, total - begin)
            for lead, part in enumerate(file.split(block, header.channels)):
                symbols[lead, :, begin : begin + steps] = coder.decode(
                    pasts[lead], steps, part, header.level
                )
        return _latent_of(header, symbols, header.samples)

    def _exact(
        self,
        signal: Array,
        header: Header,
        keys: int,
        names: Sequence[str],
        units: Sequence[str],
        *,
        error: int = 0,
        quantum: float | None = None,
    ) -> bytes:
        """The file of whole numbers: of integers up to an error, or of floats in quanta."""
        head, blocks = exact_blocks(
            self._exact_tables, signal, header, keys, error=error, quantum=quantum
        )
        return file.write(head, blocks, names, units)

    def _bounded(
        self,
        signal: Array,
        header: Header,
        max_error: float,
        keys: int,
        names: Sequence[str],
        units: Sequence[str],
    ) -> bytes:
        """The smaller of the exact file and the coarsest latent within the bound."""
        whole = signal.dtype.kind != "f"
        if not isinstance(max_error, Real) or not (0 <= max_error if whole else 0 < max_error):
            least = "0 or more" if whole else "more than 0"
            raise ValueError(f"max_error is {max_error!r}, expected {least}")
        if whole:
            blob = self._exact(signal, header, keys, names, units, error=int(max_error))
            # What another machine rounds otherwise is still within.
            bound = int(max_error) + 0.49
        else:
            # The type's own rounding comes on top.
            room = float(np.spacing(np.abs(signal).max()))
            if max_error <= 2 * room:
                raise ValueError(f"max_error is {max_error}, finer than {signal.dtype} holds")
            quantum = 2 * (float(max_error) - room) * (1 - 1e-9)
            blob = self._exact(signal, header, keys, names, units, quantum=quantum)
            bound = 0.999 * float(max_error)
        segments = segments_of(header.samples, keys)
        low, high, best = -1, LEVELS, None
        while high - low > 1:
            level = (low + high) // 2
            latent = self._encoded(signal, header, level, segments)
            if self._peak(signal, latent) <= bound:
                high, best = level, latent
            else:
                low = level
        if best is not None:
            other = self._file(best, keys, names, units)
            blob = min(blob, other, key=len)
        return blob

    def _peak(self, signal: Array, latent: SignalLatent) -> float:
        """The largest error of a latent, before samples are rounded to their type."""
        steps = self._coder.steps[latent.level][:, None]
        worst = 0.0
        for lead, symbols in enumerate(latent.symbols):
            found = self._transforms.synthesize((symbols * steps).astype(np.float32), latent.level)
            values = found[: len(signal)] * latent.scales[lead] + latent.offsets[lead]
            worst = max(worst, float(np.abs(values - signal[:, lead]).max()))
        return worst

    def _check_id(self, codec_id: bytes) -> None:
        if not self._id.startswith(codec_id):
            raise UnknownCodec(
                f"the file was written by codec {codec_id.hex()}, "
                f"{self.bundle.manifest.name} is {self._id.hex()}",
                codec_id=codec_id,
            )

    def _check_latent(self, latent: SignalLatent) -> None:
        if not isinstance(latent, SignalLatent):
            raise TypeError(f"latent is {type(latent).__name__}, expected SignalLatent")
        leads = len(latent.symbols)
        shape = (leads, self._spec.channels, -(-latent.samples // STRIDE))
        if latent.samples < 1 or latent.symbols.shape != shape or leads != len(latent.scales):
            raise ValueError(
                f"symbols have shape {latent.symbols.shape}, expected {shape} for "
                f"{latent.samples} samples of {len(latent.scales)} leads"
            )
        if latent.symbols.dtype.kind != "i":
            raise ValueError(f"symbols are {latent.symbols.dtype}, expected signed integers")
        # Of both ends: the least number of a type has no absolute value in it.
        if max(-int(latent.symbols.min()), int(latent.symbols.max())) > 30_000:
            raise ValueError("symbols reach further, expected -30000 to 30000")
        if type(latent.level) is not int or not 0 <= latent.level < LEVELS:
            raise ValueError(f"level is {latent.level!r}, expected 0 to {LEVELS - 1}")


def _latent_of(
    header: Header, symbols: Symbols, samples: int, level: int | None = None
) -> SignalLatent:
    return SignalLatent(
        symbols,
        header.level if level is None else level,
        samples,
        header.flat,
        header.dtype,
        header.sample_rate_hz,
        header.offsets,
        header.scales,
    )


def file_codec_id(data: bytes, *, limits: Limits | None = None, **_: Any) -> bytes:
    """The id of the codec that wrote a signal's file: 16 bytes, or the first 4 in the small form.

    Raises BitstreamError if there is no sound header.
    """
    return file.read_header(data, limits).codec_id


def file_info(data: bytes) -> dict[str, Any]:
    """What the header of a signal's file says: {"kind", "samples", "channels", "sample_rate_hz",
    "dtype", "exact", "quality" and "level" (None of exact samples), "codec_id"}.

    `kind` is "audio" of speech, else "signal"; `channels` are 0 for (samples,); `codec_id` is
    hexadecimal, short in the small form. Only the beginning of the file need be there. Raises
    BitstreamError.
    """
    header = file.read_header(data)
    if not header.samples:
        raise BitstreamError("the file holds no samples")
    return {
        "kind": "audio" if header.of_speech else "signal",
        "samples": header.samples,
        "channels": 0 if header.flat else header.channels,
        "sample_rate_hz": header.sample_rate_hz,
        "dtype": header.dtype,
        "exact": header.exact,
        "quality": None if header.exact else quality_of_level(header.level),
        "level": None if header.exact else header.level,
        "codec_id": header.codec_id.hex(),
    }
