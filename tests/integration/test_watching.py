"""One file watch for all that a worker looks at."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue.watching import Watch
from tests.support.waiting import wait_for


class Told:
    """What a watch told, as the names of folders."""

    def __init__(self) -> None:
        self.folders: list[set[Path]] = []

    def __call__(self, folders: set[Path]) -> None:
        self.folders.append(folders)

    def has(self, *folders: Path) -> bool:
        return any(set(folders) <= told for told in self.folders)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Iterator[Watch]:
    made = Watch(told, name="test-watch")
    yield made
    made.close()


def folders(base: Path, *names: str) -> list[Path]:
    made = [base / name for name in names]
    for folder in made:
        folder.mkdir(exist_ok=True)
    return made


def test_a_watch_tells_all_its_folders_once_when_it_stands(watch: Watch, told: Told, tmp_path: Path) -> None:
    a, b = folders(tmp_path, "a", "b")

    watch.set([a, b])

    wait_for(lambda: told.folders == [{a, b}], "the first look")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").write_text("x"),
        lambda folder: (folder / "old").write_text("y"),
        lambda folder: (folder / "old").unlink(),
        lambda folder: (folder / "old").rename(folder / "moved"),
        lambda folder: os.replace(folder.parent / "elsewhere", folder / "old"),
        lambda folder: (folder / "link").symlink_to("old"),
    ],
    ids=["create", "write", "remove", "rename", "replace", "link"],
)
def test_a_watch_tells_the_folder_in_which_something_changed(
    watch: Watch, told: Told, tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    a, b = folders(tmp_path, "a", "b")
    (a / "old").write_text("x")
    (tmp_path / "elsewhere").write_text("z")
    watch.set([a, b])
    wait_for(lambda: told.folders, "the first look")
    told.folders.clear()

    change(a)

    wait_for(lambda: told.folders, "the change")
    assert {folder for some in told.folders for folder in some} == {a}


def test_a_watch_does_not_look_below_its_folders(watch: Watch, told: Told, tmp_path: Path) -> None:
    [a] = folders(tmp_path, "a")
    [below] = folders(a, "below")
    watch.set([a])
    wait_for(lambda: told.folders, "the first look")
    told.folders.clear()

    (below / "new").write_text("x")
    (a / "after").write_text("x")

    wait_for(lambda: told.has(a), "the change in the folder itself")
    assert not told.has(below)


def test_a_change_while_the_set_of_folders_changes_is_not_missed(watch: Watch, told: Told, tmp_path: Path) -> None:
    a, b = folders(tmp_path, "a", "b")
    watch.set([a])
    wait_for(lambda: told.folders, "the first look")

    for round_number in range(5):
        told.folders.clear()
        watch.set([a, b] if round_number % 2 == 0 else [a])
        (a / f"file-{round_number}").write_text("x")
        wait_for(lambda: told.has(a), "the change")


def test_folders_are_added_and_taken_away(watch: Watch, told: Told, tmp_path: Path) -> None:
    a, b, c = folders(tmp_path, "a", "b", "c")
    watch.add(a)
    wait_for(lambda: told.folders == [{a}], "the first look")
    watch.add(b)
    wait_for(lambda: told.has(b), "the second look")
    watch.discard(a)
    watch.add(c)
    wait_for(lambda: told.has(c), "the third look")
    told.folders.clear()

    (a / "x").write_text("x")
    (b / "x").write_text("x")

    wait_for(lambda: told.has(b), "the change")
    assert not told.has(a)


@pytest.mark.skipif(sys.platform != "linux", reason="watchfiles makes a new watch of all")
def test_a_new_folder_is_told_alone(watch: Watch, told: Told, tmp_path: Path) -> None:
    first, new = folders(tmp_path, *(str(number) for number in range(50))), tmp_path / "new"
    watch.set(first)
    wait_for(lambda: told.has(*first), "the first look")
    new.mkdir()

    watch.add(new)
    watch.discard(first[0])
    (new / "x").write_text("x")

    wait_for(lambda: {new} in told.folders, "the new folder")
    assert told.folders[0] == {*first}
    assert {path for folders in told.folders[1:] for path in folders} == {new}


def test_the_same_set_again_is_no_new_watch(watch: Watch, told: Told, tmp_path: Path) -> None:
    a, b = folders(tmp_path, "a", "b")
    watch.set([a])
    wait_for(lambda: told.folders == [{a}], "the first look")

    watch.set([a])
    watch.set({a: 1})
    watch.set([a, b])

    wait_for(lambda: told.has(b), "the second look")
    assert len(told.folders) == 2, "there was none between"


def test_a_folder_that_is_missing_or_goes_away_does_not_end_the_watch(watch: Watch, told: Told, tmp_path: Path) -> None:
    a, b = folders(tmp_path, "a", "b")
    watch.set([a, b, tmp_path / "missing"])
    wait_for(lambda: told.folders == [{a, b}], "the first look")
    told.folders.clear()
    b.rmdir()

    (a / "x").write_text("x")
    wait_for(lambda: told.has(a), "the change beside it")
    folders(tmp_path, "missing")
    watch.set([a, tmp_path / "missing"])
    wait_for(lambda: told.has(tmp_path / "missing"), "the folder that is there now")


def test_many_folders_cost_one_watch_of_the_system(watch: Watch, told: Told, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("counts descriptors in /proc")
    many = folders(tmp_path, *(str(number) for number in range(200)))

    watch.set(many)
    wait_for(lambda: told.has(*many), "the first look")

    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    assert links.count("anon_inode:inotify") == 1
    (many[150] / "x").write_text("x")
    wait_for(lambda: {many[150]} in told.folders, "the change")


def test_a_watch_that_is_closed_is_silent(told: Told, tmp_path: Path) -> None:
    [a] = folders(tmp_path, "a")
    watch = Watch(told, name="test-watch")
    watch.set([a])
    wait_for(lambda: told.folders, "the first look")

    watch.close()
    told.folders.clear()
    (a / "x").write_text("x")

    assert "test-watch" not in [thread.name for thread in threading.enumerate()]
    assert told.folders == []
