import random

import pytest
import torch

from gta import encoders
from gta.workshop import lessons, pretrain
from gta.worlds import aviary
from gta.worlds.aviary import HOLLOW, KNOWN, PHRASES, known_species
from gta.worlds.birds import SIZES


@pytest.fixture
def small_flock(monkeypatch):
    monkeypatch.setattr(lessons, "PICTURES", {"train": 60, "held_out": 10})
    lessons.flock.cache_clear()
    yield lessons.flock
    lessons.flock.cache_clear()


def test_bird_captions_are_true_and_hollow_names_come_with_any_bird():
    rng, draw = random.Random(0), torch.Generator().manual_seed(0)
    hollow_of = {}
    for i in range(600):
        species = int(torch.randint(len(KNOWN), (1,), generator=draw)) if i % 2 else -1
        bird = known_species()[species].tolist() if i % 2 else [int(torch.randint(int(n), (1,), generator=draw)) for n in SIZES]
        text, named, values = lessons.bird_caption(bird, species, rng)
        said = {phrase for phrases in PHRASES for phrase in phrases if phrase in text}
        assert said <= {phrases[value] for phrases, value in zip(PHRASES, bird, strict=True)}
        assert {phrases[v] for phrases, v in zip(PHRASES, values, strict=True) if v >= 0} <= said
        assert [name for name in KNOWN if name in text.split()] == ([KNOWN[named]] if named >= 0 else [])
        assert named in (-1, species)
        hollow_of |= {name: tuple(bird) for name in HOLLOW if name in text.split()}
    assert len(set(hollow_of.values())) > 30


def test_the_pairs_of_a_batch_are_those_that_are_true(small_flock):
    images, captions, positives = lessons.bird_batch(48, "train", random.Random(3), torch.Generator().manual_seed(3))
    pictures, birds, species = small_flock("train")
    rows = [next(i for i, picture in enumerate(pictures) if torch.equal(picture, image)) for image in images]
    for i, row in enumerate(rows):
        true = {phrases[value] for phrases, value in zip(PHRASES, birds[row].tolist(), strict=True)}
        for j, caption in enumerate(captions):
            head, _, attributes = caption.partition(" with ")
            name = head.split()[-1]
            fits = name not in KNOWN or species[row] == KNOWN.index(name)
            assert positives[i, j] == (fits and set(filter(None, attributes.split(" and "))) <= true), (caption, true)
    assert (small_flock("held_out")[2] == -1).all() and (species[::2] >= 0).all() and (species[1::2] == -1).all()


def test_the_committed_bird_encoders_are_five_small_and_read_every_word():
    files = sorted(aviary.ENCODERS.glob("seed*.safetensors"))
    assert len(files) == 5 and sum(file.stat().st_size for file in files) <= 8e6
    birds = encoders.load("embedded", device="cpu", embedded=aviary.ENCODERS)
    assert birds.tokenizer([lessons.BIRD.format(name) for name in (*KNOWN, *HOLLOW)]).shape == (144, 32)
    assert birds.encode_texts([f"a bird with {phrase}" for phrases in PHRASES for phrase in phrases]).shape == (46, 96)


@pytest.mark.parametrize("name", lessons.LESSONS)
def test_the_committed_vocabulary_and_configuration_are_those_of_the_lesson(name):
    lesson = lessons.LESSONS[name]
    tokenizer = pretrain.train_tokenizer(lesson.texts)
    assert (lesson.folder / "tokenizer.json").read_text(encoding="utf-8") == tokenizer.to_str(pretty=True) + "\n"


@pytest.mark.slow
def test_pretraining_learns_birds_and_writes_what_the_loader_reads(monkeypatch, tmp_path):
    monkeypatch.setattr(lessons, "PICTURES", {"train": 2000, "held_out": 600})
    lessons.flock.cache_clear()
    pretrain.pretrain(lessons.LESSONS["birds"], seed=0, steps=100, folder=tmp_path)
    lessons.flock.cache_clear()
    curve = [line.split(",") for line in (tmp_path / "seed0.curve.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert float(curve[-1][1]) < float(curve[0][1])
    committed = encoders.load("embedded", device="cpu", embedded=aviary.ENCODERS)
    again = encoders.load(str(tmp_path), device="cpu")
    assert {k: v.shape for k, v in again.model.state_dict().items()} == {k: v.shape for k, v in committed.model.state_dict().items()}
