"""Changed files and packets never break the decoders; `tests.fuzz.decoders -n N` does more."""

from __future__ import annotations

import random

import decoders
import libfuzzer
import pytest


def test_two_thousand_mutants_give_data_or_an_error_of_one_line():
    outcomes, _, broken = decoders.fuzz(2_000)
    assert broken == []
    # Both ways were taken by every decoder, hundreds of times in all.
    for form in decoders.FORMS:
        assert outcomes[f"{form}: data"] > 4 and outcomes[f"{form}: refused"] > 40
    assert outcomes.total() == 2_000


def test_mutants_of_one_seed_are_the_same_from_any_beginning():
    whole, part = decoders.fuzz(40, seed=3)[0], decoders.fuzz(15, seed=3)[0]
    assert part + decoders.fuzz(25, seed=3, first=15)[0] == whole


def test_a_mutant_can_be_made_again_from_its_seed():
    assert (
        decoders.fuzz(30, seed=3)[0] == decoders.fuzz(30, seed=3)[0] != decoders.fuzz(30, seed=4)[0]
    )


def test_what_breaks_the_rule_is_told(monkeypatch):
    def broken(*_, **__):
        raise IndexError("beyond")

    monkeypatch.setattr(decoders.ImageCodec, "decompress", broken)
    _, _, told = decoders.fuzz(20)
    assert told and all("IndexError: beyond" in line for line in told)


def test_the_target_for_atheris_takes_its_corpus_and_any_change_of_it():
    corpus = libfuzzer.corpus()
    assert {data[0] for data in corpus} == set(range(len(libfuzzer.FORMS)))
    # Sound files pass, and packets of another codec whose checksums it puts right.
    said = [libfuzzer.one_input(data) for data in corpus]
    assert said.count(None) > len(said) / 2
    rng = random.Random(0)
    refused = sum(
        libfuzzer.one_input(bytes([data[0]]) + decoders.changed(rng, data[1:])) is not None
        for data in corpus * 50
    )
    assert refused > len(corpus) * 25
    assert libfuzzer.one_input(b"") is None


def test_the_target_for_atheris_lets_through_what_is_no_error_of_ours(monkeypatch):
    def broken(*_, **__):
        raise IndexError("beyond")

    monkeypatch.setattr(libfuzzer.image_file, "read", broken)
    with pytest.raises(IndexError, match="beyond"):
        libfuzzer.one_input(b"\0anything")
