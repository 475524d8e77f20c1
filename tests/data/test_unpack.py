"""Archives that want to write elsewhere write nothing at all."""

import io
import stat
import tarfile
import zipfile

import pytest

from gta.data import unpack

PLAIN = {"a/1.jpg": b"one", "a/b/2.jpg": b"two"}


def zipped(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def tarred(file, members, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))
    return file


def everything(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(("make", "name"), [(zipped, "x.zip"), (tarred, "x.tar.gz"), (tarred, "x.tgz"), (tarred, "x.tar")])
def test_what_is_in_an_archive_comes_out_and_the_temporary_folder_goes(make, name, tmp_path):
    members = {**PLAIN, "__MACOSX/a/._1.jpg": b"noise", "a/.DS_Store": b"noise"}
    with unpack.unpacked(make(tmp_path / name, members), tmp_path / "out", 1000) as folder:
        assert everything(folder) == PLAIN
        unpack.move_into(folder, tmp_path / "home")
    assert everything(tmp_path / "home") == PLAIN and not list((tmp_path / "out").iterdir())


def test_an_archive_in_an_archive_is_unpacked_where_it_lies(tmp_path):
    inner = tarred(tmp_path / "101_ObjectCategories.tar.gz", PLAIN).read_bytes()
    archive = zipped(tmp_path / "caltech-101.zip", {"caltech-101/101_ObjectCategories.tar.gz": inner, "caltech-101/readme": b"r"})
    with unpack.unpacked(archive, tmp_path / "out", 10_000) as folder:
        assert everything(folder) == {"caltech-101/readme": b"r", **{f"caltech-101/{name}": content for name, content in PLAIN.items()}}


OUTSIDE = ["../evil.jpg", "a/../../evil.jpg", "/evil.jpg", "C:\\evil.jpg", "c:/evil.jpg", "..\\evil.jpg"]


@pytest.mark.parametrize("evil", OUTSIDE)
@pytest.mark.parametrize(("make", "name"), [(zipped, "x.zip"), (tarred, "x.tar.gz")])
def test_a_malicious_archive_writes_nothing_outside_of_its_folder_and_leaves_nothing_in_it(make, name, evil, tmp_path):
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "in" / name, {**PLAIN, evil: b"evil"})
    before = everything(tmp_path)
    with (
        pytest.raises(unpack.BadArchive, match=r"evil\.jpg' would be written outside of its folder") as error,
        unpack.unpacked(archive, tmp_path / "out", 1000),
    ):
        pass
    assert str(archive) in str(error.value)
    assert everything(tmp_path) == before


def test_a_malicious_archive_within_an_archive_is_refused_too(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"../../evil.jpg": b"evil"}).read_bytes()
    archive = zipped(tmp_path / "x.zip", {"a/inner.zip": inner})
    before = everything(tmp_path)
    with pytest.raises(unpack.BadArchive, match="evil"), unpack.unpacked(archive, tmp_path / "out", 1000):
        pass
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    archive = tarred(tmp_path / "x.tar", {"a/link": b""}, kind, "/etc/passwd")
    with pytest.raises(unpack.BadArchive, match="'a/link' is a link or a device"), unpack.unpacked(archive, tmp_path / "out", 1000):
        pass


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("a/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(unpack.BadArchive, match="'a/link' is a link"), unpack.unpacked(tmp_path / "x.zip", tmp_path / "out", 1000):
        pass


@pytest.mark.parametrize(("make", "name"), [(zipped, "x.zip"), (tarred, "x.tar.gz")])
def test_more_bytes_than_allowed_stop_at_the_limit(make, name, tmp_path):
    archive = make(tmp_path / name, {"bomb": bytes(5 << 20)})
    assert archive.stat().st_size < 50_000
    with pytest.raises(unpack.BadArchive, match="more bytes than allowed, at 'bomb'"), unpack.unpacked(archive, tmp_path / "out", 1 << 20):
        pass
    with unpack.unpacked(archive, tmp_path / "out", 5 << 20) as folder:
        assert (folder / "bomb").stat().st_size == 5 << 20


def test_a_name_given_twice_is_refused(tmp_path):
    archive = tarred(tmp_path / "x.tar", {"a/1.jpg": b"1", "a/./1.jpg": b"2"})
    with pytest.raises(unpack.BadArchive, match=r"a/1\.jpg is there twice"), unpack.unpacked(archive, tmp_path / "out", 1000):
        pass


@pytest.mark.parametrize(("make", "name"), [(zipped, "x.zip"), (tarred, "x.tar.gz")])
def test_a_broken_archive_is_named(make, name, tmp_path):
    archive = make(tmp_path / name, {"a": bytes(range(256)) * 400})
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(unpack.BadArchive, match=name), unpack.unpacked(archive, tmp_path / "out", 1 << 20):
        pass
    assert not list((tmp_path / "out").iterdir())
