"""What messages hold: images, signals and alarms, by the codecs that devices say they use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeae
from edgeae.bundle import bundled_with_codec_id
from edgeae.errors import BitstreamError
from edgeae.link.message import Message
from edgeae.loading import file_codec_id

__all__ = ["Decoder"]

# How every file begins, see docs/FORMAT.md; a packet begins otherwise.
_FILE = 0x89


class Decoder:
    """Decodes messages; codecs are loaded when they are first needed, and kept.

    Args:
        models: names or folders of codecs beside the bundled ones.

    Raises:
        BundleError: one of them is not there, or is damaged.
    """

    def __init__(self, models: Sequence[str | Path] = ()) -> None:
        self._codecs: dict[bytes, Any] = {}
        for model in models:
            codec = edgeae.load(model)
            self._codecs[bytes.fromhex(codec.bundle.manifest.codec_id or "")] = codec

    def image(self, message: Message) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
        """An image, uint8 (H, W) or (H, W, channels), and a mask (H, W) of what is not exact.

        The mask is None for an image that came as one file, and so is exact.

        Raises:
            BitstreamError: the codes are damaged, or packets of a codec of which nothing is known.
            UnknownCodec: the codec is neither bundled nor among `models`.
        """
        first = message.codes[0]
        if first[:1] == bytes([_FILE]):
            return self._codec(file_codec_id(first)).decompress(first), None
        told = None if message.bundle is None else message.bundle["codec_id"]
        if told is None:
            raise BitstreamError(f"{message.device} has not said which codec made its packets")
        image, mask = self._codec(bytes.fromhex(told)).receive(message.codes)
        return image, mask

    def signal(self, message: Message) -> npt.NDArray[Any]:
        """The blocks of a signal one after the other, in the shape that its codec gives.

        Raises as `image` does.
        """
        blocks = [self._codec(file_codec_id(code)).decompress(code) for code in message.codes]
        return np.concatenate(blocks)

    @staticmethod
    def alarm(message: Message) -> dict[str, Any]:
        """The values of an alarm. Raises BitstreamError if they are no object of JSON."""
        try:
            values = json.loads(b"".join(message.codes))
        except (ValueError, RecursionError) as error:
            raise BitstreamError(f"an alarm is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise BitstreamError(f"an alarm is {type(values).__name__}, expected an object")
        return values

    def _codec(self, codec_id: bytes) -> Any:
        # A file may carry only the first bytes of an id.
        for known, codec in self._codecs.items():
            if known.startswith(codec_id):
                return codec
        bundle = bundled_with_codec_id(codec_id)
        codec = edgeae.load(bundle.path)
        self._codecs[bytes.fromhex(bundle.manifest.codec_id or "")] = codec
        return codec
