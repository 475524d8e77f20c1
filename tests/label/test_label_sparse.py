"""`python -m gta label` where z is held by its largest entries: with all of them the same files, and what needs z whole is refused."""

from dataclasses import replace

import pytest
from PIL import Image

from gta.labels import SparseZ
from gta.worlds.glyphs import DIGITS
from labelling import label

FILES = ("predictions.csv", "groups.csv", "sets.csv", "issues.csv", "attributes.json")


@pytest.fixture
def home(tmp_path, glyphs):
    """60 glyphs in five folders, a taxonomy, and reviews of all that are right."""
    reviewed = ["path,label"]
    for i, (image, j) in enumerate(zip(*glyphs, strict=True)):
        file = tmp_path / f"images/{i % 5}/{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
        reviewed.append(f"{i % 5}/{i:02d}.png,{DIGITS[j]}")
    parents = ["child,parent", *(f"{name},{'even' if j % 2 == 0 else 'odd'}" for j, name in enumerate(DIGITS))]
    for name, lines in {"classes.txt": DIGITS, "parents.csv": parents, "reviews.csv": reviewed}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_every_file_is_that_of_the_whole_z(home, monkeypatch):
    options = ("--taxonomy", home / "parents.csv", "--groups", "folder", "--reviewed", home / "reviews.csv", "--reject-above", "0.5")
    options += ("--llm", "fieldguide")
    assert label(home, *options, iterations=2, out="whole") == 0
    monkeypatch.setattr("gta.loop.entries_held", lambda keep, images, classes: classes)
    seen, unlike = [], SparseZ.__getitem__
    monkeypatch.setattr(SparseZ, "__getitem__", lambda z, rows: seen.append(z) or unlike(z, rows))
    assert label(home, *options, iterations=2, out="sparse") == 0
    assert seen, "nothing was sparse"
    for name in FILES:
        assert (home / "sparse" / name).read_bytes() == (home / "whole" / name).read_bytes(), name
    pages = [(home / out / "report.html").read_text(encoding="utf-8") for out in ("whole", "sparse")]
    galleries = [page[page.index('id="sizes"') : page.index("<h2", page.index('id="pairs"'))] for page in pages]
    assert galleries[0].replace("whole", "sparse") == galleries[1]


def test_sizes_that_need_z_whole_are_refused_before_an_image_is_read(home, monkeypatch, capsys):
    monkeypatch.setattr("gta.label.jobs.entries_held", lambda keep, images, classes: 5)
    assert label(home, "--class-sizes", "equal") == 1
    assert "--class-sizes: z of 60 images and 10 classes is held by its largest entries" in capsys.readouterr().err
    assert not (home / "out/images").exists()
    assert label(home, "--plan") == 0
    told = capsys.readouterr().out
    assert "of each image the 5 likeliest classes" in told and "change: --class-sizes" not in told


def test_frames_of_videos_count(home, monkeypatch, capsys):
    monkeypatch.setattr("gta.label.jobs.entries_held", lambda keep, images, classes: 5 if images > 60 else None)

    def with_frames(found, out, every):
        (home / "frame.png").write_bytes(found.paths[0].read_bytes())
        return replace(found, paths=[*found.paths, home / "frame.png"], names=[*found.names, "frame.png"]), {}

    monkeypatch.setattr("gta.label.run.with_frames", with_frames)
    assert label(home, "--class-sizes", "equal") == 1
    assert "--class-sizes: z of 61 images and 10 classes" in capsys.readouterr().err and not (home / "out/embeddings").exists()
