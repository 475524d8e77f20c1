"""Fetch a dataset to the user's disk: try the pinned sources in order, check hashes, unpack safely, verify the copy, and lock it."""

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.request import Request, urlopen

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from tqdm.auto import tqdm

from gta.data import copies, lock, manifests, splits, unpack
from gta.data.lock import Archive, Lock
from gta.data.manifests import Dataset, Source
from gta.data.verify import Report, verify
from gta.files import sha256

DOWNLOADS = ".downloads"
SHARE = 0.05  # the share of the disk that stays free
GROWTH = 4  # the largest ratio of unpacked to fetched bytes: an archive of photographs is hardly compressed
TIMEOUT = 60  # seconds without a byte


class CannotFetch(RuntimeError):
    """No source gave the dataset. The message has the error of each source, and what to do by hand."""


class WrongBytes(ValueError):
    """A file has another size or hash than it should have."""


@dataclass(frozen=True)
class Remote:
    """A file to download: its local name, its size, and the hash that the server or the manifest gives."""

    path: str
    name: str
    bytes: int | None
    sha256: str | None
    md5: str | None


def fetch(name: str, root: Path, given: Sequence[Path] = (), say: Callable[[str], None] = print) -> Report:
    """Fetch a dataset to `root`, or take it from `given`: archives of the user, or one folder, which is verified and stays in its place.

    A complete copy is not fetched again. Raises ValueError for an unknown dataset, CannotFetch, WrongBytes,
    `gta.data.unpack.BadArchive`, or OSError if the disk is too small.
    """
    manifest, root = manifests.dataset(name), Path(root).expanduser()
    if len(given) == 1 and given[0].is_dir():
        say(f"{given[0]} stays where it is; use it as root")
        return verify(name, given[0])
    if given:
        source = "the user's " + ", ".join(file.name for file in given)
        archives = {file.name: _archive(file) for file in given}
        for file in given:
            _unpack_into(manifest, file, root)
    elif _is_there(manifest, root, say):
        say(f"{name} is there already")
        return verify(name, root)
    else:
        source, archives = _from_sources(manifest, root, say)
    _add_split_file(manifest, root, say)
    return _settle(manifest, root, source, archives, say)


def _is_there(manifest: Dataset, root: Path, say: Callable[[str], None]) -> bool:
    """Whether all files of a copy exist by name. Adds a missing split file first."""
    try:
        _add_split_file(manifest, root, say)
    except FileNotFoundError:
        return False
    except OSError as error:  # the split file cannot be fetched; perhaps the archive can
        say(f"  {error}")
    return verify(manifest.name, root, decode=False).ready


def _settle(manifest: Dataset, root: Path, source: str, archives: dict[str, Archive], say: Callable[[str], None]) -> Report:
    """Verify what was unpacked, and lock it if it is the first copy of the dataset."""
    report = verify(manifest.name, root)
    if not report.ready:
        return report
    sums = lock.write_sums(copies.find(manifest, root))
    if lock.read(manifest.name) is None:
        lock.write(Lock(dataset=manifest.name, source=source, archives=archives, counts=report.found, sums=sums))
        say(f"locked in {lock.file(manifest.name)}; later fetches and runs are held against it")
    elif reason := lock.differs(manifest.name, report.base):
        report.problems.append(("lock", 0, reason))
    return report


def _from_sources(manifest: Dataset, root: Path, say: Callable[[str], None]) -> tuple[str, dict[str, Archive]]:
    """Try the sources in order. Returns the source that gave the dataset, and its files."""
    answers, downloads = [], root / DOWNLOADS / manifest.name
    for source in manifest.sources:
        try:
            say(f"{manifest.name} from {source} ({source.evidence})")
            files = _download(source, downloads / hashlib.sha256(str(source).encode()).hexdigest()[:8], say)
        except NoRoom:
            raise
        except Exception as error:  # a source may fail in any way, and HTTP libraries have errors of their own: try the next
            first_line = str(error).partition("\n")[0]
            answers.append(f"  {source}: {type(error).__name__}: {first_line}")
            say(answers[-1])
            continue
        archives = {file.name: _archive(file) for file in files}
        if reason := lock.archive_differs(manifest.name, archives):
            raise WrongBytes(reason)
        for file in files:
            _unpack_into(manifest, file, root)
        shutil.rmtree(downloads)
        return str(source), archives
    by_hand = (manifest.steps or "A machine with internet can get one of these files.").replace("ROOT", str(root))
    command = f"python -m gta data fetch {manifest.name} --root {root} --from FILE"
    raise CannotFetch("\n".join([f"{manifest.name} cannot be fetched.", *answers, by_hand, f"An archive of yours: `{command}`"]))


class NoRoom(OSError):
    """The disk is too small for the files and their unpacked content."""


def _download(source: Source, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Download all files of a source into `folder`, and check them against every known size and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    remotes = [_ask(source, path) for path in source.paths]
    needed, free = sum(remote.bytes or 0 for remote in remotes), shutil.disk_usage(folder).free
    say(f"  {needed / 1e6:,.1f} MB to fetch, about as much again unpacked; {free / 1e9:,.1f} GB free in {folder}")
    if 2 * needed > free * (1 - SHARE):
        raise NoRoom(f"{folder} has {free / 1e9:,.1f} GB free, {2 * needed / 1e9:,.1f} GB are needed; give another --root")
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda remote: _one(source, remote, folder), remotes))


def _ask(source: Source, path: str) -> Remote:
    """Ask the server for the size and hash of a file before it is fetched."""
    name = PurePosixPath(path).name
    if source.kind == "url":
        with urlopen(Request(path, method="HEAD"), timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
        size = int(length) if length else source.bytes
        return Remote(path, name, size, source.sha256, source.md5)
    url = hf_hub_url(source.repository or "", path, repo_type=source.repository_type, revision=source.revision)
    metadata = get_hf_file_metadata(url, timeout=TIMEOUT)
    # The etag of a large file on the Hub is its SHA-256.
    served = metadata.etag if metadata.etag and re.fullmatch(r"[0-9a-f]{64}", metadata.etag) else None
    if source.sha256 and served and served != source.sha256:
        raise WrongBytes(f"{path}: the Hub offers {served}, the manifest says {source.sha256}")
    return Remote(path, name, metadata.size or source.bytes, source.sha256 or served, source.md5)


def _one(source: Source, remote: Remote, folder: Path) -> Path:
    if source.kind == "url":
        file = _from_address(remote, folder)
    else:
        file = Path(
            hf_hub_download(
                source.repository or "", remote.path, repo_type=source.repository_type, revision=source.revision, local_dir=folder
            )
        )
    wrong = None
    if remote.bytes is not None and file.stat().st_size != remote.bytes:
        wrong = f"has {file.stat().st_size:,} bytes, not {remote.bytes:,}"
    elif remote.sha256 and sha256(file) != remote.sha256:
        wrong = f"has another SHA-256 than {remote.sha256}"
    elif remote.md5 and _md5(file) != remote.md5:
        wrong = f"has another MD5 than {remote.md5}"
    if wrong:
        file.unlink()  # the next fetch starts from zero
        raise WrongBytes(f"{remote.name} {wrong}; it was deleted: fetch again")
    return file


def _from_address(remote: Remote, folder: Path) -> Path:
    """Download a file from a plain web server; continues where an earlier attempt stopped."""
    file, part = folder / remote.name, folder / f"{remote.name}.part"
    if file.exists():
        return file
    have = part.stat().st_size if part.exists() else 0
    if have and (remote.bytes is None or have >= remote.bytes):
        part.unlink()  # it is unknown how much of the file is correct
        have = 0
    request = Request(remote.path, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        bar = tqdm(total=remote.bytes, initial=have if resumed else 0, unit="B", unit_scale=True, desc=remote.name)
        with open(part, "ab" if resumed else "wb") as out, bar:
            while chunk := answer.read(1 << 20):
                out.write(chunk)
                bar.update(len(chunk))
    if remote.bytes is not None and part.stat().st_size < remote.bytes:
        raise ConnectionError(f"{remote.name}: the connection ended at {part.stat().st_size:,} of {remote.bytes:,} bytes; fetch again")
    return part.rename(file)


def _unpack_into(manifest: Dataset, archive: Path, root: Path) -> None:
    """Unpack an archive into the dataset's folder of the first layout. A file that is no archive is copied there."""
    home = root / copies.homes(manifest)[0]
    if not unpack.is_archive(archive.name):
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, home / archive.name)
        return
    room = int(shutil.disk_usage(archive.parent).free * (1 - SHARE))
    with unpack.unpacked(archive, root, min(room, GROWTH * archive.stat().st_size + (64 << 20))) as folder:
        inside = sorted(folder.iterdir())
        alone = len(inside) == 1 and inside[0].is_dir() and inside[0].name in copies.homes(manifest)
        unpack.move_into(inside[0] if alone else folder, home)


def _add_split_file(manifest: Dataset, root: Path, say: Callable[[str], None]) -> None:
    """Fetch the published split file to the folder of the images, if it is missing and its address is known."""
    pin, copy = manifest.split_file, copies.find(manifest, root)
    if pin is None or pin.url is None or any(PurePosixPath(file).name == pin.name for file in copy.files):
        return
    say(f"  {pin.name} from {pin.url}")
    with urlopen(pin.url, timeout=TIMEOUT) as answer:
        content = answer.read(64 << 20)
    file = copy.base / f".{pin.name}.part"
    file.write_bytes(content)
    if not splits.is_the_pinned(file, pin):
        file.unlink()
        raise WrongBytes(f"{pin.url} is not the paper's split file: its hash is another")
    file.replace(copy.base / pin.name)


def _archive(file: Path) -> Archive:
    return Archive(sha256=sha256(file), bytes=file.stat().st_size)


def _md5(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
