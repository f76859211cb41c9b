"""The page on thin links keeps its word on speech: its example runs between a made radio's ends."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgeae.bench.speech_codec import made_talk

PAGE = Path(__file__).parent.parent.parent / "docs" / "links.md"


def test_the_example_sends_speech_over_a_radio_that_loses_and_damages():
    text = PAGE.read_text(encoding="utf-8").split("## Speech, packet by packet")[1]
    (example,) = re.findall(r"^```python\n(.*?)^```", text.split("\n## ")[0], re.DOTALL | re.M)
    talk = made_talk(24_000)
    sent: list[bytes] = []
    said: list[np.ndarray] = []

    def arrived():
        for number, packet in enumerate(sent):
            damaged = bytes([*packet[:-1], packet[-1] ^ 1])
            yield {3: None, 7: damaged}.get(number, packet)

    there = {
        "microphone": np.split(talk, range(700, 24_000, 700)),
        "radio": SimpleNamespace(send=sent.append),
        "arrived": arrived(),
        "loudspeaker": SimpleNamespace(play=said.append),
    }
    exec(compile(example, "the example", "exec"), there)
    heard = np.concatenate(said)
    assert [len(block) for block in said] == [1600] * len(sent) and len(sent) == 16
    # Late by one frame, as loud as it was but where packets were lost.
    loud = np.sqrt(np.mean(heard[320:4800] ** 2) / np.mean(talk[:4480] ** 2))
    assert 0.5 < loud < 2 and np.isfinite(heard).all() and "edgeae" in there
