"""Where dispatch keeps its things, and what this machine is called."""

import os
from pathlib import Path

import pytest

from dispatch_queue.errors import DispatchError
from dispatch_queue.home import dispatch_home, host_name, run_folder


def test_the_home_is_in_the_user_s_home_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISPATCH_HOME", "")
    assert dispatch_home() == tmp_path / ".dispatch"

    monkeypatch.setenv("DISPATCH_HOME", "~/d")
    assert dispatch_home() == tmp_path / "d"


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPATCH_HOME", "d")
    assert dispatch_home() == tmp_path / "d"


@pytest.mark.parametrize(
    ("given", "name"),
    [("Build_7", "build-7"), ("ci.example.org", "ci-example-org"), ("Zürich", "z-rich"), ("--", "localhost")],
)
def test_a_host_name_is_fit_for_a_queue_s_name(monkeypatch: pytest.MonkeyPatch, given: str, name: str) -> None:
    monkeypatch.setenv("DISPATCH_HOST", given)
    assert host_name() == name


def test_the_machine_s_own_name_is_taken_without_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCH_HOST", raising=False)
    assert "." not in host_name()
    assert host_name()


def test_the_run_folder_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = run_folder(tmp_path / "d")
    finally:
        os.umask(before)
    assert run.stat().st_mode & 0o777 == 0o700
    assert run_folder(tmp_path / "d") == run


def test_a_run_folder_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    run_folder(tmp_path).chmod(0o770)
    with pytest.raises(DispatchError, match="others may write") as caught:
        run_folder(tmp_path)
    assert caught.value.hint == f"chmod 700 {tmp_path}/run"


def test_a_link_in_place_of_the_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to("elsewhere")
    with pytest.raises(DispatchError, match="is a link"):
        run_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_run_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(run_folder(tmp_path), 65534, 65534)
    with pytest.raises(DispatchError, match="belongs to the user with the id 65534"):
        run_folder(tmp_path)


def test_a_home_that_cannot_be_made_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DispatchError, match="Not a directory") as caught:
        run_folder(tmp_path / "file")
    assert "DISPATCH_HOME" in (caught.value.hint or "")
