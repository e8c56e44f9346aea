"""The surroundings of every test: nothing of the user's is read or written, nothing is left behind.

Each test process has a folder of its own, short enough for the paths of Unix sockets:

    /tmp/d-XXXXXXXX/<main, gw0, gw1, …>/    git config, TMPDIR, the server's folder, a HOME for each test
    /tmp/d-XXXXXXXX/t/                      tmp_path
"""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.support import sandbox as sandboxes
from tests.support.processes import end_processes_of
from tests.support.sandbox import Sandbox
from tests.support.server import Server, start_server

GIT_CONFIG: Final = """\
[user]
    name = Test
    email = test@example.invalid
[init]
    defaultBranch = main
[gc]
    auto = 0
[maintenance]
    auto = false
[advice]
    detachedHead = false
"""

settings.register_profile("ours", deadline=None)  # a busy machine is no fault of a test
settings.load_profile("ours")

# What the caller has set for its own work would steer ours: a git hook, an agent's task, another Redis.
FOREIGN: Final = ("DISPATCH_", "GIT_", "CELERY_", "REDIS_", "FLOWER_", "XDG_")
FOREIGN_NAMES: Final = ("FORCE_COLOR", "COLUMNS", "LINES")

base_key: Final = pytest.StashKey[Path]()
own_key: Final = pytest.StashKey[Path]()
environ_key: Final = pytest.StashKey[dict[str, str]]()

_home_numbers: Final = itertools.count(1)
_test_of_home: Final[dict[str, str]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Move this process into its own folder before anything asks for a temporary one."""
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is None:
        base = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp")).resolve()
        config.option.basetemp = config.option.basetemp or str(base / "t")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that it is tidied up
    else:
        base = Path(worker["dispatch_base"])
    own = base / (worker["workerid"] if worker else "main")
    for folder in (own, own / "tmp", own / "run"):
        folder.mkdir(mode=0o700)
    (own / "gitconfig").write_text(GIT_CONFIG)
    config.stash[base_key] = base
    config.stash[own_key] = own
    config.stash[environ_key] = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name in FOREIGN_NAMES]:
        del os.environ[name]
    os.environ.update(
        TMPDIR=str(own / "tmp"),
        XDG_RUNTIME_DIR=str(own / "run"),
        GIT_CONFIG_GLOBAL=str(own / "gitconfig"),
        GIT_CONFIG_NOSYSTEM="1",
        GIT_TERMINAL_PROMPT="0",
        NO_COLOR="1",
        **_home(own / "home"),
    )
    tempfile.tempdir = None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker process of pytest-xdist where its folder belongs."""
    node.workerinput["dispatch_base"] = str(node.config.stash[base_key])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    before = config.stash[environ_key]
    os.environ.clear()
    os.environ.update(before)
    tempfile.tempdir = None
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[base_key], ignore_errors=True)


def _home(home: Path) -> dict[str, str]:
    """The variables that lead into a home directory, which is made."""
    home.mkdir(mode=0o700)
    return {
        "HOME": str(home),
        "DISPATCH_HOME": str(home / ".dispatch"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
    }


@pytest.fixture(scope="session", autouse=True)
def own_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This process's folder. At the end no process may be left that has to do with it or with a tmp_path."""
    own = pytestconfig.stash[own_key]
    yield own
    left = [line for folder in (own, tmp_path_factory.getbasetemp()) for line in end_processes_of(folder)]
    tests = [test for home, test in _test_of_home.items() if any(line.endswith(home) for line in left)]
    assert not left, "\n".join(["processes left by the tests:", *left, "started in these tests, if anywhere:", *tests])


@pytest.fixture(autouse=True)
def own_home(own_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty HOME and DISPATCH_HOME for each test."""
    home = own_folder / f"h{next(_home_numbers)}"
    _test_of_home[str(home)] = request.node.nodeid
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _home(home).items():
            patch.setenv(name, value)
        yield home


@pytest.fixture(scope="session")
def redis_server(own_folder: Path) -> Iterator[Server]:
    """One real server for this test process; tests take `redis_url`."""
    server = start_server(own_folder / "redis")
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """The URL of an empty server, in redis-py's form."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A project and the installed commands. Nothing of it may run on after the test."""
    with sandboxes.opened(tmp_path) as sandbox:
        yield sandbox
