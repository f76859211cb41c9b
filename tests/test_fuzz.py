"""Changed files and packets never break the decoders; `python -m tests.fuzz -n N` does more."""

from __future__ import annotations

import fuzz


def test_twenty_thousand_mutants_give_data_or_an_error_of_one_line():
    outcomes, _, broken = fuzz.fuzz(20_000)
    assert broken == []
    # Both ways were taken by every decoder, thousands of times in all.
    for form in ("file", "conceal", "packets", "graph"):
        assert outcomes[f"{form}: data"] > 100 and outcomes[f"{form}: refused"] > 100


def test_a_mutant_can_be_made_again_from_its_seed():
    assert fuzz.fuzz(30, seed=3)[0] == fuzz.fuzz(30, seed=3)[0] != fuzz.fuzz(30, seed=4)[0]


def test_what_breaks_the_rule_is_told(monkeypatch):
    def broken(*_, **__):
        raise IndexError("beyond")

    monkeypatch.setattr(fuzz.Codec, "decompress", broken)
    _, _, told = fuzz.fuzz(20)
    assert told and all("IndexError: beyond" in line for line in told)
