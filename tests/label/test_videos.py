"""Videos as their frames: which are taken, under what names, once; what is told where they cannot be read."""

import av
import numpy as np
import pytest
from PIL import Image

from gta.label import inputs, videos
from gta.label.inputs import find_images
from gta.worlds.glyphs import DIGITS
from labelling import command, label, rows


def film(file, frames, rate=4):
    """A video of uint8 (H, W, 3) pictures, so many a second."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.fixture
def home(tmp_path, glyphs):
    """Eight glyphs, and a video of 2.5 seconds that grows lighter with each of its ten frames."""
    for i, image in enumerate(glyphs[0][:8]):
        (tmp_path / "images/deep").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"images/{i}.png")
    film(tmp_path / "images/deep/clip.mp4", [np.full((64, 64, 3), 20 * i + 20, np.uint8) for i in range(10)])
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("every", "seconds"), [(1.0, [0, 1, 2]), (0.6, [0, 0.75, 1.25, 2]), (0.25, [i / 4 for i in range(10)]), (9.0, [0])]
)
def test_a_frame_is_the_first_at_or_after_its_time(home, every, seconds):
    found, of = videos.with_frames(find_images(home / "images"), home / "out", every)
    frames = {name: path for name, path in zip(found.names, found.paths, strict=True) if name in of}
    assert list(frames) == [f"deep/clip.mp4/{second:09.3f}s.jpg" for second in seconds] and set(of.values()) == {"deep/clip.mp4"}
    for second, path in zip(seconds, frames.values(), strict=True):
        assert Image.open(path).getpixel((32, 32))[0] == pytest.approx(20 * 4 * second + 20, abs=6)


def test_frames_are_read_once_and_appear_together(home, monkeypatch):
    found = find_images(home / "images")
    decode, calls = videos._decode, []

    def breaks(video, folder, every):
        (folder / "00000.000s.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(videos, "_decode", breaks)
    with pytest.raises(KeyboardInterrupt):
        videos.with_frames(found, home / "out", 1.0)
    assert list((home / "out/frames").iterdir()) == []
    monkeypatch.setattr(videos, "_decode", lambda *of: (calls.append(of), decode(*of)))
    first, again = (videos.with_frames(found, home / "out", 1.0) for _ in range(2))
    assert first == again and len(calls) == 1


def test_a_run_has_a_line_a_frame_and_a_line_a_video(home, capsys):
    assert label(home) == 0
    assert "8 images, 1 videos (a frame every 1 seconds is an image more)" in capsys.readouterr().out
    found = rows(home / "out/predictions.csv")
    frames = [row for row in found if row["group"]]
    assert len(found) == 11 and len(frames) == 3 and {row["group"] for row in frames} == {"deep/clip.mp4"}
    (video,) = rows(home / "out/groups.csv")
    assert video["group"] == "deep/clip.mp4" and video["images"] == "3" and {row["group_label"] for row in frames} == {video["label"]}
    assert rows(home / "out/left_out.csv") == []
    assert command("export", home / "out", "--to", "imagefolder", "--copy", "--out", home / "sorted") == 0
    assert len(list((home / "sorted").rglob("deep__clip.mp4__*.jpg"))) == 3


@pytest.mark.parametrize("every", [1.0, 0.6, 0.25, 9.0])
def test_a_plan_counts_frames_and_their_bytes_and_writes_none(home, capsys, every):
    assert label(home, "--plan", "--every", every) == 0 and not (home / "out").exists()
    found = find_images(home / "images")
    count, size = videos.sizes(found, every)
    made, of = videos.with_frames(found, home / "out", every)
    frames = [path for name, path in zip(made.names, made.paths, strict=True) if name in of]
    assert count == len(frames) and size == pytest.approx(sum(path.stat().st_size for path in frames), rel=0.1)
    assert f"MB of it about {count} frames of videos" in capsys.readouterr().out


def test_a_plan_passes_over_a_video_that_cannot_be_read(home):
    (home / "images/deep/clip.mp4").write_bytes((home / "images/deep/clip.mp4").read_bytes()[:200])
    assert videos.sizes(find_images(home / "images"), 1.0) == (0, 0.0) and label(home, "--plan") == 0


def test_what_cannot_be_read_is_told_and_the_rest_is_labelled(home):
    (home / "images/torn.mp4").write_bytes((home / "images/deep/clip.mp4").read_bytes()[:200])
    (home / "images/zero.avi").write_bytes(b"")
    assert label(home) == 0
    left = {row["path"]: row["reason"] for row in rows(home / "out/left_out.csv")}
    assert left.keys() == {"torn.mp4", "zero.avi"} and left["torn.mp4"].startswith("no frame can be read: ") and "empty" in left["zero.avi"]


def test_without_the_reader_videos_are_left_out_with_the_mend(home, monkeypatch, capsys):
    monkeypatch.setattr(inputs, "find_spec", lambda name: None)
    assert label(home) == 0
    assert rows(home / "out/left_out.csv") == [
        {"path": "deep/clip.mp4", "reason": "a video; pip install 'gta-clip[video]' reads its frames"}
    ]
    with pytest.raises(ValueError, match=r"no image among 1 files: clip.mp4 \(a video; pip install"):
        find_images(home / "images/deep")


def test_predict_reads_frames_as_label_does_and_keeps_none(home, capsys):
    """Of videos alone too."""
    for i in range(8):
        (home / f"images/{i}.png").unlink()
    assert label(home, "--save-model", "--every", 0.6) == 0
    asked = sorted(home.rglob("*"))
    assert command("predict", home / "out/model", home / "images", "--every", 0.6, "--out", home / "p.csv") == 0
    assert sorted(home.rglob("*")) == sorted([*asked, home / "p.csv"])
    found, labelled = rows(home / "p.csv"), rows(home / "out/predictions.csv")
    assert [row["path"] for row in found] == [row["path"] for row in labelled] and len(found) == 4
    assert {row["group"] for row in found} == {"deep/clip.mp4"} and len({row["group_label"] for row in found}) == 1
    assert command("predict", home / "out/model", home / "out/frames", "--out", home / "alone.csv") == 0
    facts = [[(row["label"], row["confidence"], row["unfitness"]) for row in of] for of in (found, rows(home / "alone.csv"))]
    assert facts[0] == facts[1], "a frame has the label of the image that `label` left of it"
    with pytest.raises(SystemExit):
        command("predict", home / "out/model", home / "images", "--every", 0)
    assert "give seconds above 0" in capsys.readouterr().err
