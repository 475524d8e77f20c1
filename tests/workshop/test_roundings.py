"""The same counts on every machine, as far as one machine can play others."""

import os
import subprocess
import sys

import pytest
import torch

from gta.workshop import roundings
from gta.workshop.roundings import DATASETS, OLDER, ROUNDINGS, elsewhere

LAST_DIGITS = """
import hashlib
from gta import encoders
encoder = encoders.load("embedded", device="cpu")
features = encoder.encode_texts(["a picture of the digit one", "a character with a curve open to the left at the top"])
print(hashlib.sha256(features.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_rounding_gives_the_same_counts(dataset):
    found = {name: elsewhere(dataset, *rounding, iterations=3) for name, rounding in ROUNDINGS.items()}
    assert found == dict.fromkeys(ROUNDINGS, found["as it is"])
    assert len(found["as it is"]) == 3 and min(found["as it is"]) > 0


@pytest.mark.slow
def test_older_instructions_do_round_otherwise():
    """Else the test above would say nothing."""

    def digits(environment):
        command = [sys.executable, "-c", LAST_DIGITS]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=True).stdout

    assert digits({}) == digits({}) != digits(OLDER)


def test_noise_on_the_weights_is_noise_in_float64_and_two_threads_are_two(monkeypatch, encoder, glyphs):
    """What a run is given, without the run."""
    given = []

    def run(encoder, images, names, settings, **options):
        with encoder.threads():
            given.append((encoder, settings.iterations, torch.get_num_threads()))
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    monkeypatch.setattr(roundings.loop, "run", run)
    monkeypatch.setattr(roundings.Encoder, "threads", roundings.Encoder.threads)  # put back afterwards
    try:
        for threads, noise in ((1, 0.0), (1, 1e-13), (2, 0.0)):
            with pytest.raises(KeyboardInterrupt):
                roundings.counts("digits", threads, noise, 3)
    finally:
        torch.set_num_threads(before)
    assert [step[1:] for step in given] == [(3, 1), (3, 1), (3, 2)]
    plain, noisy = (dict(step[0].model.named_parameters()) for step in given[:2])
    assert all(torch.equal(plain[name], weight) for name, weight in encoder.model.named_parameters())
    change = torch.cat([((noisy[name] - weight) / weight).flatten().detach() for name, weight in plain.items() if (weight != 0).all()])
    assert 0.9e-13 < change.std() < 1.1e-13
