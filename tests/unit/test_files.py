"""Files an agent may have touched: nothing outside the trusted folder is reached, nothing is half-written."""

import os
import resource
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue import files
from dispatch_queue.errors import UntrustedPath


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A trusted folder with the task folder `t` in it, beside a secret that must stay untouched."""
    (tmp_path / "base" / "t").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "base"


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Writes beyond this size fail as they do on a full disk: in part, then with an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def a_link(at: Path) -> None:
    at.symlink_to(at.parents[2] / "secret")


def a_broken_link(at: Path) -> None:
    at.symlink_to("nowhere")


def a_link_to_itself(at: Path) -> None:
    at.symlink_to(at.name)


def a_folder(at: Path) -> None:
    at.mkdir()


def a_fifo(at: Path) -> None:
    os.mkfifo(at)


def a_socket(at: Path) -> None:
    with tempfile.TemporaryDirectory() as short:  # the path of a socket is limited to about 100 bytes
        bound = Path(short) / "s"
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(bound))
            os.rename(bound, at)


NOT_FILES = [a_link, a_broken_link, a_link_to_itself, a_folder, a_fifo, a_socket]
NOT_NAMES = ["", "/", "/etc/passwd", "..", "t/../../secret", "t//x", "./t", "t/", "t/\0x"]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_name_that_is_not_plain_is_refused_everywhere(base: Path, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: files.read(base, name, limit_bytes=10),
        lambda: files.write(base, name, b"x"),
        lambda: files.append(base, name, b"x"),
        lambda: files.names(base, name),
        lambda: files.make_folder(base, name),
        lambda: files.remove(base, name),
    ]
    for call in calls:
        with pytest.raises(UntrustedPath):
            call()
    assert sorted(path.name for path in base.rglob("*")) == ["t"]


@given(st.text(max_size=20))
def test_only_plain_parts_pass(name: str) -> None:
    try:
        parts = files.parts_of(name)
    except UntrustedPath:
        return
    assert "/".join(parts) == name
    assert not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize("make", NOT_FILES)
def test_what_is_not_a_regular_file_is_not_opened(base: Path, make: Callable[[Path], None]) -> None:
    make(base / "t" / "x")

    with pytest.raises(UntrustedPath):
        files.read(base, "t/x", limit_bytes=10)
    with pytest.raises(UntrustedPath):
        files.append(base, "t/x", b"spoilt")
    with pytest.raises(UntrustedPath), files.locked(base, "t/x"):
        pass

    assert (base.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("make", [a_link, a_broken_link, a_fifo, a_socket])
def test_writing_replaces_the_link_itself(base: Path, make: Callable[[Path], None]) -> None:
    make(base / "t" / "x")

    files.write(base, "t/x", b"new")

    assert files.read(base, "t/x", limit_bytes=3) == b"new"
    assert not (base / "t" / "x").is_symlink()
    assert (base.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("make", NOT_FILES)
def test_writing_without_replacing_refuses_whatever_is_there(base: Path, make: Callable[[Path], None]) -> None:
    make(base / "t" / "x")

    with pytest.raises(FileExistsError):
        files.write(base, "t/x", b"new", replace=False)

    assert (base.parent / "secret").read_text() == "secret"
    assert names_in(base / "t") == ["x"]


def test_a_folder_in_the_place_of_a_file_is_refused_and_leaves_nothing(base: Path) -> None:
    (base / "t" / "x").mkdir()

    with pytest.raises(UntrustedPath):
        files.write(base, "t/x", b"new")
    with pytest.raises(UntrustedPath):
        files.remove(base, "t/x")

    assert names_in(base / "t") == ["x"]


@pytest.mark.parametrize("where", ["t", "t/ipc"])
def test_no_link_among_the_folders_is_followed(base: Path, where: str) -> None:
    outside = base.parent / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    (base / "t").rmdir()
    if where == "t/ipc":
        (base / "t").mkdir()
    (base / where).symlink_to(outside)
    calls: list[Callable[[], object]] = [
        lambda: files.read(base, f"{where}/x", limit_bytes=10),
        lambda: files.write(base, f"{where}/y", b"x"),
        lambda: files.write(base, f"{where}/y", b"x", replace=False),
        lambda: files.append(base, f"{where}/x", b"x"),
        lambda: files.names(base, where),
        lambda: files.make_folder(base, f"{where}/deeper"),
        lambda: files.remove(base, f"{where}/x"),
    ]

    for call in calls:
        with pytest.raises(UntrustedPath, match=f"^{where}: "):
            call()

    assert (outside / "x").read_text() == "secret"
    assert names_in(outside) == ["x"]


def test_a_file_in_the_place_of_a_folder_is_refused(base: Path) -> None:
    (base / "t" / "ipc").write_text("")

    with pytest.raises(UntrustedPath, match="t/ipc: is not a folder"):
        files.write(base, "t/ipc/x", b"")
    with pytest.raises(UntrustedPath):
        files.make_folder(base, "t/ipc")


def test_a_second_name_of_a_file_outside_is_not_written_to(base: Path) -> None:
    (base / "t" / "x").hardlink_to(base.parent / "secret")

    with pytest.raises(UntrustedPath, match="second name"):
        files.append(base, "t/x", b"spoilt")
    files.write(base, "t/x", b"new")

    assert (base.parent / "secret").read_text() == "secret"


def test_a_file_is_read_up_to_its_limit_and_not_beyond(base: Path) -> None:
    files.write(base, "t/x", b"12345")

    assert files.read(base, "t/x", limit_bytes=5) == b"12345"
    with pytest.raises(UntrustedPath, match="is larger than 4 bytes"):
        files.read(base, "t/x", limit_bytes=4)


def test_a_huge_file_is_refused_without_being_read(base: Path) -> None:
    with open(base / "t" / "x", "wb") as stream:
        stream.truncate(1 << 40)  # sparse: takes no disk, but reading it all would never end

    with pytest.raises(UntrustedPath):
        files.read(base, "t/x", limit_bytes=100)


def test_what_is_missing_is_missing(base: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(base, "t/x", limit_bytes=1)
    with pytest.raises(FileNotFoundError):
        files.read(base, "none/x", limit_bytes=1)
    with pytest.raises(FileNotFoundError):
        files.append(base, "t/x", b"")
    assert files.names(base, "none/deeper") == []
    files.remove(base, "t/x")
    files.remove(base, "none/x")


def test_writing_makes_folders_and_leaves_only_the_file(base: Path) -> None:
    files.write(base, "a/b/c", b"one")
    files.write(base, "a/b/c", b"two")
    files.append(base, "a/b/c", b"+")

    assert (base / "a/b/c").read_bytes() == b"two+"
    assert files.names(base, "a/b") == ["c"]


def test_removing_a_link_leaves_what_it_led_to(base: Path) -> None:
    a_link(base / "t" / "x")

    files.remove(base, "t/x")

    assert names_in(base / "t") == []
    assert (base.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("replace", [True, False])
def test_a_write_that_fails_leaves_nothing_and_keeps_the_old(base: Path, replace: bool) -> None:
    if replace:
        files.write(base, "t/x", b"old")

    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        files.write(base, "t/x", b"n" * 100_000, replace=replace)

    assert names_in(base / "t") == (["x"] if replace else [])
    assert not replace or (base / "t" / "x").read_bytes() == b"old"


def test_an_append_that_fits_only_in_part_is_taken_back(base: Path) -> None:
    files.write(base, "t/x", b"o" * 990)

    with largest_file(1000), pytest.raises(OSError, match="No space left"):
        files.append(base, "t/x", b"n" * 20)

    assert (base / "t" / "x").read_bytes() == b"o" * 990


def test_of_two_that_write_without_replacing_exactly_one_wins(base: Path) -> None:
    for turn in range(30):
        won: list[bytes] = []
        together = threading.Barrier(4)

        def write(data: bytes, name: str, won: list[bytes] = won, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                files.write(base, name, data, replace=False)
            except FileExistsError:
                return
            won.append(data)

        threads = [threading.Thread(target=write, args=(b"%d" % who, f"t/{turn}")) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert won == [files.read(base, f"t/{turn}", limit_bytes=10)]
    assert len(names_in(base / "t")) == 30


def test_appends_of_many_at_once_all_stay_whole(base: Path) -> None:
    files.write(base, "t/x", b"")

    def append(who: int) -> None:
        for _ in range(50):
            files.append(base, "t/x", (f"{who}" * 200 + "\n").encode())

    threads = [threading.Thread(target=append, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = (base / "t" / "x").read_text().splitlines()
    assert sorted(lines) == sorted(f"{who}" * 200 for who in range(4) for _ in range(50))


def test_no_descriptor_is_leaked(base: Path) -> None:
    a_link(base / "t" / "link")
    files.write(base, "t/x", b"1")
    before = len(names_in(Path("/dev/fd")))

    for _ in range(20):
        files.read(base, "t/x", limit_bytes=1)
        files.names(base, "t")
        files.write(base, "t/deep/er/x", b"1")
        for name in ("t/link", "t/link/x", "t/none"):
            with pytest.raises((UntrustedPath, FileNotFoundError)):
                files.read(base, name, limit_bytes=1)

    assert len(names_in(Path("/dev/fd"))) == before


def test_a_folder_with_more_names_than_allowed_is_not_listed(base: Path) -> None:
    for number in range(4):
        files.write(base, f"t/{number}", b"")

    assert files.names(base, "t", limit=4) == ["0", "1", "2", "3"]
    with pytest.raises(UntrustedPath, match="more than 3 files"):
        files.names(base, "t", limit=3)


@pytest.mark.parametrize("put", [a_link, a_broken_link, a_link_to_itself, a_fifo])
def test_what_has_no_content_of_its_own_is_removed_to_make_room(base: Path, put: Callable[[Path], None]) -> None:
    for for_folder in (False, True):
        put(base / "t" / "x")

        assert files.clear(base, "t/x", for_folder=for_folder)

        assert names_in(base / "t") == []
    assert (base.parent / "secret").read_text() == "secret"


def test_a_folder_in_the_place_of_a_file_is_kept_beside_it(base: Path) -> None:
    (base / "t" / "x" / "within").mkdir(parents=True)

    assert files.clear(base, "t/x")

    [aside] = names_in(base / "t")
    assert aside.startswith("x.rejected-")
    assert names_in(base / "t" / aside) == ["within"]


def test_a_file_over_the_limit_is_kept_beside_its_place(base: Path) -> None:
    files.write(base, "t/x", b"12345")

    assert not files.clear(base, "t/x", limit_bytes=5)
    assert files.clear(base, "t/x", limit_bytes=4)
    assert [(base / "t" / name).read_bytes() for name in names_in(base / "t")] == [b"12345"]


def test_what_is_as_it_must_be_or_not_there_is_left(base: Path) -> None:
    files.write(base, "t/x", b"1")

    assert not files.clear(base, "t/x")
    assert not files.clear(base, "t", for_folder=True)
    assert not files.clear(base, "t/none")
    assert not files.clear(base, "none/x")
    assert files.read(base, "t/x", limit_bytes=1) == b"1"


def test_a_log_is_appended_to_and_never_through_a_link(base: Path) -> None:
    for text in (b"one\n", b"two\n"):
        handle = files.open_log(base, "t/deep/log")
        os.write(handle, text)
        os.close(handle)
    a_link(base / "t" / "link")

    assert files.read(base, "t/deep/log", limit_bytes=100) == b"one\ntwo\n"
    for name in ("t/link", "t/link/log"):
        with pytest.raises(UntrustedPath):
            files.open_log(base, name)
        with pytest.raises((UntrustedPath, FileNotFoundError)):
            files.open_read(base, name)
    assert (base.parent / "secret").read_text() == "secret"


def test_an_open_file_knows_whether_it_still_has_its_name(base: Path) -> None:
    handle = files.open_log(base, "t/log")
    try:
        assert files.is_same(base, "t/log", handle)
        (base / "t" / "log").rename(base / "t" / "moved")
        assert not files.is_same(base, "t/log", handle)
        files.write(base, "t/log", b"")
        assert not files.is_same(base, "t/log", handle)
    finally:
        os.close(handle)
