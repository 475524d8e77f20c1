"""Videos as their frames: one every so many seconds, each an image in `OUT/frames` that is labelled as any other.

Frames are read with PyAV, the extra `video`. All frames are decoded, since seeking lands where the file was cut for it.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gta.files import sha256
from gta.label.inputs import Found

FRAMES = "frames"  # the sub-folder of the results
QUALITY = 95  # of the JPEG files


def with_frames(found: Found, folder: Path, every: float) -> tuple[Found, dict[str, str]]:
    """The images and a frame of each video every so many seconds, and {name of a frame: name of its video}.

    folder: of the results; frames that lie there already are not read again. A video that cannot be read is left out with the reason.
    Raises ValueError where no image is left.
    """
    paths, names, left_out, of_video = list(found.paths), list(found.names), list(found.left_out), {}
    for path, name in found.videos:
        try:
            frames = _frames(path, folder / FRAMES, every)
        except (OSError, ValueError) as error:
            left_out.append((name, f"no frame can be read: {error}"))
            continue
        for frame in frames:
            paths.append(frame)
            names.append(f"{name}/{frame.name}")
            of_video[names[-1]] = name
    if not paths:
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in left_out[:5]))
    return replace(found, paths=paths, names=names, left_out=left_out, videos=()), of_video


def sizes(found: Found, every: float) -> tuple[int, float]:
    """About how many frames the videos give, and their bytes in `OUT/frames`, by the length that a video says and its first frame. Nothing
    is written; a video that cannot be read, or says no length, counts for its first frame at most."""
    frames, size = 0, 0.0
    for path, _ in found.videos:
        try:
            seconds, first = _length(path)
        except (OSError, ValueError):
            continue
        count = int((seconds + 1e-6) / every) + 1
        frames, size = frames + count, size + count * first
    return frames, size


def _length(video: Path) -> tuple[float, int]:
    """Seconds from the first frame to the last, and the bytes of the first as it is kept."""
    import av

    with av.open(str(video)) as container:
        if not container.streams.video:
            raise ValueError("it holds no pictures")
        stream, data = container.streams.video[0], io.BytesIO()
        for frame in container.decode(stream):
            frame.to_image().save(data, "jpeg", quality=QUALITY)
            break
        whole = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else (container.duration or 0) / 1e6
        last = 1 / float(stream.average_rate) if stream.average_rate else 0.0
    return max(0.0, whole - last), data.tell()


def _frames(video: Path, folder: Path, every: float) -> Sequence[Path]:
    """The files of a video's frames, called by the second that they show. They appear all at once, in a folder named by the content."""
    place = folder / f"{sha256(video)[:16]}-{every:g}s"
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".part."))
        try:
            _decode(video, part, every)
            os.chmod(part, 0o755)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return sorted(place.glob("*.jpg"))


def _decode(video: Path, folder: Path, every: float) -> None:
    import av

    due, count = 0.0, 0
    with av.open(str(video)) as container:
        if not container.streams.video:
            raise ValueError("it holds no pictures")
        start = None
        for frame in container.decode(container.streams.video[0]):
            moment = frame.time if frame.time is not None else 0.0
            start = moment if start is None else start
            if moment - start < due - 1e-6:
                continue
            image = frame.to_image()
            if getattr(frame, "rotation", 0):  # degrees counterclockwise, of a camera that was held otherwise
                image = image.rotate(frame.rotation, expand=True)
            image.save(folder / f"{moment - start:09.3f}s.jpg", quality=QUALITY)
            count += 1
            due = every * (int((moment - start + 1e-6) / every) + 1)
    if not count:
        raise ValueError("it holds no frame")
