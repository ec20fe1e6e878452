"""Archives: good ones in any layout, and hostile ones that must not write a byte outside, nor fill the disk."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_pulling import ARTIFACT, put

from berth.errors import BerthError, StoreError, UnsafeArtifact
from berth.models.manifest import MANIFEST
from berth.models.store import list_versions, verify_version
from berth.pulling.addresses import Access
from berth.pulling.archive import unpack
from berth.pulling.pull import PullReport, parse_wanted, pull_models
from berth.pulling.transfer import Persistence
from file_server import FileServer, serve_files

Pack = Callable[[Path, str, str], Path]
ROOM = 1 << 40
ACCESS = Access(persistence=Persistence(first_pause=0.001))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """iris 1 and 2."""
    store = tmp_path / "store"
    put(store, "iris", "1")
    put(store, "iris", "2")
    return store


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where archives lie."""
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where the models should come."""
    return tmp_path / "into"


@pytest.fixture
def web(shelf: Path) -> Iterator[FileServer]:
    """The shelf, served."""
    with serve_files(shelf) as server:
        yield server


def pull(uri: str | Path, into: Path, models: str = "") -> list[str]:
    """The keys of what is there afterwards, each verified."""
    pull_models(str(uri), into, parse_wanted(models), ACCESS, PullReport())
    assert not (into / ".pull").exists()
    entries = [entry for name in sorted(path.name for path in into.iterdir()) for entry in list_versions(into, name)]
    for entry in entries:
        verify_version(entry)
    return [entry.key for entry in entries]


def pack(folder: Path, to: Path) -> Path:
    """The folder's content as an archive of the kind that the name says."""
    kind = {".zip": "zip", ".tar": "tar"}.get(to.suffix, "gztar")
    made = shutil.make_archive(str(to.with_suffix("").with_suffix("")), kind, folder)
    return Path(made).rename(to)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".zip", ".TAR.GZ"])
@pytest.mark.parametrize("top", ["", "iris", "iris/1"])
def test_every_kind_and_layout(store: Path, shelf: Path, into: Path, suffix: str, top: str) -> None:
    archive = pack(store / top, shelf / f"models{suffix}")
    before = archive.read_bytes()
    assert pull(archive, into) == (["iris@1"] if top == "iris/1" else ["iris@2"])
    assert pull(archive, into, "iris@1,iris") == (["iris@1"] if top == "iris/1" else ["iris@1", "iris@2"])
    assert archive.read_bytes() == before


def test_a_wrapper_around_a_store(store: Path, shelf: Path, into: Path) -> None:
    (shelf / "in").mkdir()
    shutil.copytree(store, shelf / "in" / "acme-models-1.2")
    assert pull(pack(shelf / "in", shelf / "models.tar.gz"), into, "iris@1") == ["iris@1"]


def test_a_file_of_a_version_may_be_called_as_the_manifest(shelf: Path, tmp_path: Path, into: Path) -> None:
    entry = put(tmp_path / "other", "iris", "3")
    (entry.folder / "more" / MANIFEST).write_text("{}")
    archive = pack(entry.folder, shelf / "models.zip")
    assert pull(archive, into) == ["iris@3"]  # what the manifest does not name stays behind


def test_from_the_web_with_cuts(store: Path, shelf: Path, into: Path, web: FileServer) -> None:
    size = pack(store / "iris" / "1", shelf / "iris.tar.gz").stat().st_size
    web.etag, web.cuts = '"v1"', {"/iris.tar.gz": [1000, 0, 500]}
    assert pull(f"{web.url}/iris.tar.gz?sig=s", into) == ["iris@1"]
    assert [asked.range for asked in web.asked] == ["", "bytes=1000-", "bytes=1000-", "bytes=1500-"]
    assert {asked.if_range for asked in web.asked[1:]} == {'"v1"'}
    assert size > 1500


def test_an_archive_that_changed_meanwhile_begins_again(store: Path, shelf: Path, into: Path, web: FileServer) -> None:
    pack(store / "iris" / "1", shelf / "models.tar.gz")
    web.etag, web.cuts = '"v1"', {"/models.tar.gz": [1000] + [0] * 20}
    with pytest.raises(StoreError, match="cut after 1000 of"):
        pull(f"{web.url}/models.tar.gz", into)
    pack(store / "iris" / "2", shelf / "models.tar.gz")
    web.etag, web.cuts = '"v2"', {}
    assert pull(f"{web.url}/models.tar.gz", into) == ["iris@2"]
    assert web.asked[-1].range == "bytes=1000-"


def test_without_a_name_for_its_state_an_archive_begins_again(
    store: Path, shelf: Path, into: Path, web: FileServer
) -> None:
    pack(store / "iris" / "1", shelf / "models.zip")
    web.cuts = {"/models.zip": [1000]}
    assert pull(f"{web.url}/models.zip", into) == ["iris@1"]
    assert [asked.range for asked in web.asked] == ["", ""]


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar with these members, as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A member's header."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_of(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    """A zip with these members, as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return buffer.getvalue()


def zip_link(name: str) -> zipfile.ZipInfo:
    """A symbolic link as Info-ZIP writes it."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


NAMES = [
    "../outside",
    "a/../../outside",
    "/tmp/outside",
    "a/..",
    "..\\outside",
    "C:\\outside",
    "a\nb",
    "x" * 300,
    "a\x7f",
    "a\x9b31m",
    "a\u202egpj.exe",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_names_that_lead_out(tmp_path: Path, name: str, suffix: str) -> None:
    data = tar_of((member(name), b"x")) if suffix == ".tar" else zip_of((name, b"x"))
    check_refused(tmp_path, data, suffix, "no name inside a folder")


def check_refused(
    tmp_path: Path,
    data: bytes,
    suffix: str,
    words: str,
    kind: type[BerthError] | tuple[type[BerthError], ...] = UnsafeArtifact,
) -> None:
    """The archive is refused with these words, and nothing is outside of its folder."""
    folder, archive = tmp_path / "deep" / "folder", tmp_path / f"archive{suffix}"
    folder.mkdir(parents=True)
    archive.write_bytes(data)
    with pytest.raises(kind, match=words):
        unpack(archive, folder, suffix, ROOM)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([archive.name, "deep"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "info",
    [
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.SYMTYPE, "model.onnx"),
        member("link", tarfile.LNKTYPE, "/etc/passwd"),
        member("pipe", tarfile.FIFOTYPE),
        member("disk", tarfile.BLKTYPE),
        member("null", tarfile.CHRTYPE),
        member("what", b"Z"),
    ],
    ids=lambda info: f"{info.type!r}-{info.linkname}",
)
def test_members_that_are_no_files(tmp_path: Path, info: tarfile.TarInfo) -> None:
    check_refused(tmp_path, tar_of((member("model.onnx"), b"x"), (info, b"")), ".tar", "no plain file")


def test_a_link_and_then_a_file_through_it(tmp_path: Path) -> None:
    members = [(member("a", tarfile.SYMTYPE, "/tmp"), b""), (member("a/outside"), b"x")]
    check_refused(tmp_path, tar_of(*members), ".tar", "no plain file")
    shutil.rmtree(tmp_path / "deep")
    (tmp_path / "archive.tar").unlink()
    check_refused(tmp_path, zip_of((zip_link("a"), b"/tmp"), ("a/outside", b"x")), ".zip", "no plain file")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a")])
def test_names_twice(tmp_path: Path, names: tuple[str, str]) -> None:
    check_refused(tmp_path, tar_of(*((member(name), b"x") for name in names)), ".tar", "twice")


def test_more_than_there_is_room_for_is_refused_before_it_is_written(tmp_path: Path) -> None:
    info = member("model.onnx")
    info.size = 1 << 50
    check_refused(tmp_path, info.tobuf(), ".tar", f"unpacks to more than {1 << 50} bytes")
    assert list((tmp_path / "deep" / "folder").iterdir()) == []


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    data = bytearray(zip_of(("model.onnx", b"\0" * 10_000_000)))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(StoreError):
        unpack(tmp_path / "a.zip", folder, ".zip", ROOM)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 100


def test_a_header_that_wants_gigabytes_of_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    data = gzip.compress(info.tobuf() + b"0" * (16 << 20))
    tracemalloc.start()
    check_refused(tmp_path, data, ".tar.gz", "has a header of")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_before_a_member_without_an_end(tmp_path: Path, kind: bytes) -> None:
    info = member("h", kind)
    info.size = 512
    data = (info.tobuf() + b"11 path=ab\n".ljust(512, b"\0")) * 4000
    data = member("a").tobuf() + data
    check_refused(
        tmp_path, gzip.compress(data), ".tar.gz", "has a header of|cannot be unpacked", (StoreError, UnsafeArtifact)
    )


def test_a_map_of_holes_without_an_end(tmp_path: Path) -> None:
    """Old GNU tar: each block of the map says that another follows, and each becomes 21 pairs of numbers."""
    block = bytearray(512)
    block[504] = 1
    head = bytearray(member("s", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    data = gzip.compress(member("a").tobuf() + bytes(head) + bytes(block) * 200_000)
    tracemalloc.start()
    check_refused(tmp_path, data, ".tar.gz", "has a header of")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_too_many_folders(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zip":
        data = zip_of(*((f"{number}/", b"") for number in range(10_001)))
    else:
        data = gzip.compress(member("a", tarfile.DIRTYPE).tobuf() * 200_000)
    check_refused(tmp_path, data, suffix, "more than 10000 files and folders")


def test_a_negative_size(tmp_path: Path) -> None:
    head = bytearray(member("a").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512, in base 256
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    check_refused(tmp_path, bytes(head) * 3, ".tar", "no plain file")


def test_a_directory_of_a_zip_that_wants_gigabytes_of_memory(tmp_path: Path) -> None:
    data = bytearray(zip_of(("a", b"x")))
    at = data.rindex(b"PK\x05\x06")
    padding = bytes(16 << 20)
    data[at + 12 : at + 20] = struct.pack("<II", len(padding) + at, 0)
    check_refused(tmp_path, bytes(data[:at]) + padding + bytes(data[at:]), ".zip", "has a header of")


def test_a_zip_that_is_compressed_with_a_huge_dictionary(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("model.onnx")
    info.compress_type = zipfile.ZIP_LZMA
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"x" * 1000)
    check_refused(tmp_path, buffer.getvalue(), ".zip", "neither stored, deflated nor bzip2")


def test_what_unpacks_to_hundreds_of_times_its_size(tmp_path: Path) -> None:
    data = bytearray(zip_of(("model.onnx", b"\0" * 10_000_000)))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 2 << 30)
    check_refused(tmp_path, bytes(data), ".zip", "unpacks to more than 100 times its size")
    assert list((tmp_path / "deep" / "folder").iterdir()) == []


def test_an_archive_whose_manifest_is_huge(shelf: Path, into: Path, web: FileServer) -> None:
    folder = shelf / "in" / "iris" / "1"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(b"[" * (5 << 20))
    archive = pack(shelf / "in", shelf / "models.tar.gz")
    for place in (str(archive), f"{web.url}/models.tar.gz"):
        with pytest.raises(
            StoreError, match=r"iris/1/model\.json has 5242880 bytes; that is more than a model\.json may"
        ):
            pull(place, into)
        assert list(into.iterdir()) == []


def test_an_archive_of_more_than_the_directory_may_hold(store: Path, shelf: Path, into: Path, web: FileServer) -> None:
    size = pack(store / "iris" / "1", shelf / "models.tar").stat().st_size
    for most, words in ((size, f"has more than {size // 2} bytes, half of what there is room for"), (size * 2, "")):
        access = Access(persistence=ACCESS.persistence, max_bytes=most)
        if words:
            with pytest.raises(StoreError, match=words):
                pull_models(f"{web.url}/models.tar", into, [], access, PullReport())
            assert list(into.iterdir()) == []
        else:
            pull_models(f"{web.url}/models.tar", into, [], access, PullReport())


def test_too_many_files(tmp_path: Path) -> None:
    data = tar_of(*((member(f"{number}"), b"") for number in range(10_001)))
    check_refused(tmp_path, data, ".tar", "more than 10000 files and folders")


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".zip", b""),
        (".zip", b"PK\x03\x04nothing"),
        (".tar", b""),
        (".tar", b"no archive at all" * 100),
        (".tar.gz", b"no archive at all"),
        (".tar.gz", gzip.compress(b"no archive at all")),
        (".tar.gz", gzip.compress(tar_of((member("a"), ARTIFACT)))[:2000]),
        (".tar", tar_of((member("a"), ARTIFACT))[:2000]),
        (".zip", zip_of(("a", ARTIFACT))[:-10]),
    ],
    # Archives carry the time they were made: left to pytest, a test's name would differ from one process to the next.
    ids=["empty-zip", "zip", "empty-tar", "tar", "gz", "gz-of-text", "cut-gz", "cut-tar", "cut-zip"],
)
def test_what_is_no_archive(tmp_path: Path, suffix: str, data: bytes) -> None:
    check_refused(tmp_path, data, suffix, "archive", StoreError)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_without_a_model(shelf: Path, into: Path, suffix: str) -> None:
    (shelf / "in").mkdir()
    (shelf / "in" / "readme.txt").write_text("hello")
    archive = pack(shelf / "in", shelf / f"models{suffix}")
    with pytest.raises(StoreError, match=r"holds no model\.json"):
        pull(archive, into)
    assert list(into.iterdir()) == []


def test_a_flipped_byte_in_an_archive(store: Path, shelf: Path, into: Path) -> None:
    (store / "iris" / "1" / "model.onnx").write_bytes(b"y" + ARTIFACT[1:])
    for name, data in (("flip", b"y" + ARTIFACT[1:]), ("short", ARTIFACT[:-1])):
        (store / "iris" / "1" / "model.onnx").write_bytes(data)
        with pytest.raises(BerthError, match=r"iris/1/model\.onnx from .* has sha256"):
            pull(pack(store, shelf / f"{name}.tar.gz"), into, "iris@1")
        assert list(into.iterdir()) == []


def test_the_same_version_twice(store: Path, shelf: Path, into: Path) -> None:
    shutil.copytree(store / "iris" / "1", store / "iris" / "copy")
    with pytest.raises(StoreError, match="iris@1 is in the archive twice"):
        pull(pack(store, shelf / "models.tar.gz"), into)
