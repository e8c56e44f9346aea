"""doctor: what can be told of the back ends of the configuration without a call of a model.

Each CLI is looked for where the worker's agents would find it, and asked with the environment that they would see.
"""

import re
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dispatch_queue.cli.finding import Finding
from dispatch_queue.cli.render import line
from dispatch_queue.config.choose import choose
from dispatch_queue.config.clis import CLIS, CODEX, CURSOR, FULL_AUTO, Cli, cli_of, for_full_auto, visible
from dispatch_queue.config.commands import has_option, placed, program_at, words_of
from dispatch_queue.config.listing import CURSOR_WORD, Listing, listed
from dispatch_queue.config.load import CONFIG_NAME
from dispatch_queue.config.probe import Answer, ask
from dispatch_queue.config.schema import SHELL, Config
from dispatch_queue.errors import BadConfig

# A line such as `2.1.330 (Claude Code)`, `codex-cli 0.169.0`, `2026.11.20-abc1234`, within the first few.
_VERSION = re.compile(
    r"(?:[a-z][\w-]* )?(?:version )?v?(\d{1,8}\.\d{1,8}[\w.+-]{0,40})(?: \([^()]*\))?", re.IGNORECASE | re.ASCII
)
_VERSION_LINES, _SHOWN_CHARS = 5, 60
_LOGGED_OUT = re.compile(r'not (?:logged|signed) in|not authenticated|"loggedIn": *false', re.IGNORECASE)
_LOGGED_IN = re.compile(r'logged in|authenticated|"loggedIn": *true|api key configured', re.IGNORECASE)
_FOR_ROOT = "--dangerously-skip-permissions"  # claude takes it of root in a sandbox only
_OPENAI_KEY = "OPENAI_API_KEY"  # codex does not read it by itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where a back end's program is. `words` are those of its command, `path` None: it is not there.

    `needed`: it is for tasks that name no model. `here` is where this command finds it, where `path` is the worker's.
    """

    name: str
    needed: bool
    words: tuple[str, ...] = ()
    cli: Cli | None = None
    path: str | None = None
    of_worker: bool = False
    here: str | None = None
    problem: str = ""  # with its command


@dataclass(frozen=True, slots=True)
class Said:
    """What a CLI said of itself; `help`, `status` and `listing` None: it was not asked.

    `env` is what its agents see, `here` what they would see of this command's environment.
    """

    version: Answer
    help: Answer | None = None
    status: Answer | None = None
    env: Mapping[str, str] | None = None
    here: Mapping[str, str] | None = None
    credentials: bool = False
    listing: Listing | None = None


def look(
    config: Config,
    home: Path,
    here: Mapping[str, str],
    worker: Mapping[str, str] | None,
    *,
    root: bool,
    queues: Collection[str] | None = None,
) -> Iterator[Finding]:
    """Look at all back ends at the same time.

    `worker` is the environment of the worker, where one is known; `queues` those that live workers consume, None
    without workers.
    """
    used = {*config.backends, *(model.backend for model in config.models.values())}
    names = [*(cli.backend for cli in CLIS), *sorted(used - {SHELL, *(cli.backend for cli in CLIS)})]
    base = here if worker is None else worker
    needed = choose(config, "", None).backend

    def seen(name: str) -> tuple[Place, Said | None]:
        place = find(config, name, needed=name == needed, here=here, worker=worker)
        passed = config.backends[name].env if name in config.backends else ()
        return place, question(place, visible(base, place.cli, passed), visible(here, place.cli, passed))

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        for place, said in pool.map(seen, names):
            yield from findings(place, said, home / CONFIG_NAME, root=root)
            if place.path is not None and place.name in used and queues is not None:
                yield from unserved(config, name=place.name, queues=queues, file=home / CONFIG_NAME)


def find(
    config: Config, name: str, *, needed: bool, here: Mapping[str, str], worker: Mapping[str, str] | None = None
) -> Place:
    """Where the program of a back end is: on the PATH of the worker, where its environment is known, else on ours."""
    command = config.command_of(name)
    try:
        words = words_of(command) if command is not None else None
    except BadConfig as error:
        return Place(name, needed, problem=error.message)
    cli = cli_of(name, words)
    if words is None:
        if cli is None:
            return Place(name, needed, problem="it has no command")
        words = (cli.program,)
    base = here if worker is None else worker
    words = placed(words, Path("/"), base.get("HOME", "~"))
    at = program_at(words)
    path, own = (shutil.which(words[at], path=each.get("PATH")) if at < len(words) else None for each in (base, here))
    return Place(name, needed, words, cli, path, of_worker=worker is not None, here=own)


def question(place: Place, env: Mapping[str, str], here: Mapping[str, str]) -> Said | None:
    """Ask a CLI for its version, its options, and whether it is logged in. One that does not begin is asked no more."""
    cli = place.cli
    if cli is None or place.path is None:
        return None
    argv = (*place.words[: program_at(place.words)], place.path)
    version = ask([*argv, "--version"], env=env)
    if version.code != 0:
        return Said(version)
    options = ask([*argv, *cli.help], env=env)
    # A command that a CLI does not know it would take for a prompt. Every codex has `login`.
    known = cli is CODEX or _lists(options.text, cli.status[0])
    status = ask([*argv, *cli.status], env=env) if known else None
    lists = cli is CURSOR and _lists(options.text, CURSOR_WORD)
    listing = listed(ask([*argv, CURSOR_WORD], env=env)) if lists else None
    return Said(version, options, status, env, here, _has_credentials(cli, env), listing)


def _has_credentials(cli: Cli, env: Mapping[str, str]) -> bool:
    if cli.credentials is None:
        return False
    variable, folder, name = cli.credentials
    return (Path(env.get(variable) or Path(env.get("HOME", "/")) / folder) / name).is_file()


def _lists(help: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", help) is not None


def findings(place: Place, said: Said | None, config: Path, *, root: bool) -> Iterator[Finding]:
    """What there is to say of a back end: how it is, then each thing that is wrong. Pure."""
    name, cli = place.name, place.cli
    if place.problem:
        yield Finding(name, line(place.problem), f"edit `backends.{name}.command` in {config}", fatal=place.needed)
        return
    if place.path is None:
        program = place.words[at] if (at := program_at(place.words)) < len(place.words) else ""
        fix = cli.install if cli else f"install it, or edit `backends.{name}.command` in {config}"
        facts: dict[str, str | bool | None] = {"path": None}
        seen = f"`{line(program)}` is not on {'the PATH of the worker' if place.of_worker else 'PATH'}"
        if place.here is not None:
            seen, fix = (
                f"{seen}; here it is {line(place.here)}",
                "dispatch down && dispatch up  # with the PATH of here",
            )
        yield Finding(name, seen, fix, fatal=place.needed, facts=facts)
        return
    other = place.here or "none"
    path = place.path if other == place.path or not place.of_worker else f"{place.path} for the worker (here {other})"
    if cli is None or said is None:
        yield Finding(name, line(path), facts={"path": place.path})
        return
    look_at = f"{shlex.quote(place.path)} --version; install it again: {cli.install}"
    if said.version.code != 0:
        why = said.version.failure or f"exit status {said.version.code}"
        yield Finding(
            name,
            f"{line(path)} does not tell its version: {why}",
            look_at,
            fatal=place.needed,
            facts={"path": place.path, "version": None},
        )
        return
    version = version_in(said.version.text)
    logged_in, how = _login(cli, said)
    for_root = ", as root with IS_SANDBOX=1, which dispatch sets" if root and has_option(place.words, _FOR_ROOT) else ""
    yield Finding(
        name,
        f"{line(path)}, {version or _odd(said.version.text)}, {how}{for_root}",
        _login_fix(cli, said) if logged_in is False else "" if version else look_at,
        fatal=place.needed and (version is not None or logged_in is False),  # it may be another program, and work
        facts={"path": place.path, "version": version, "logged_in": logged_in},
    )
    if said.listing is not None and said.listing.failure is not None and logged_in is not False:
        yield Finding(
            f"{name} models",
            f"`{cli.program} {CURSOR_WORD}` listed nothing: {said.listing.failure}",
            f"{shlex.quote(place.path)} {CURSOR_WORD}; log in again: {cli.login}",
            fatal=False,
        )
    for option in _unknown(place, cli, said.help):
        yield Finding(
            f"{name} command",
            f"`{' '.join([cli.program, *cli.help])}` does not list `{line(option)}`",
            _edit(place, option, config),
            fatal=False,
        )


def unserved(config: Config, *, name: str, queues: Collection[str], file: Path) -> Iterator[Finding]:
    """What there is to say of a back end that runs here, and that no live worker takes tasks for. Pure."""
    if f"dispatch.{config.worker.pool}.{name}" in queues:
        return
    listed = config.worker.backends
    again = "dispatch worker" if config.redis.url else "dispatch down && dispatch up"
    fix = f"{again}  # if it is still so in ten seconds: workers take up changes by themselves"
    if listed is not None and name not in listed:
        fix = f"add `{name}` to `worker.backends` in {file}"
    yield Finding(f"{name} worker", f"no live worker serves {name}", fix, fatal=False)


def version_in(text: str) -> str | None:
    """The version that a CLI told, if one of its first lines is a version and nothing else."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = (_VERSION.fullmatch(line) for line in lines[:_VERSION_LINES])
    return next((one[1] for one in found if one), None)


def _odd(text: str) -> str:
    said = line(text, _SHOWN_CHARS)
    return f"version not understood: `{said}`" if said else "version not told"


def _login(cli: Cli, said: Said) -> tuple[bool | None, str]:
    """Whether an agent would be logged in, None if that cannot be told, and how that is known."""
    key = next((key for key in cli.keys if (said.env or {}).get(key)), None)
    if key is not None:
        return True, f"with the key in {key}"
    if said.status is not None and said.status.failure is None:
        if _LOGGED_OUT.search(said.status.text):
            return False, "not logged in"
        if said.status.code == 0 and _LOGGED_IN.search(said.status.text):
            return True, "logged in"
    if said.credentials:
        return True, "with stored credentials"
    if said.status is not None and said.status.failure is not None:
        return None, f"log-in unknown: `{' '.join([cli.program, *cli.status])}`: {said.status.failure}"
    return None, "log-in unknown"


def _login_fix(cli: Cli, said: Said) -> str:
    here = said.here or {}
    key = next((key for key in cli.keys if here.get(key)), None)
    if key is not None:
        return f"dispatch down && dispatch up  # the worker was started without {key}"
    if cli is CODEX and here.get(_OPENAI_KEY):
        return f"printenv {_OPENAI_KEY} | codex login --with-api-key"
    return cli.login


def _unknown(place: Place, cli: Cli, help: Answer | None) -> list[str]:
    """The options in a command that the CLI does not list; none where it cannot be asked for those of this command."""
    given = list(place.words[program_at(place.words) + 1 :])
    for word in cli.help[:-1]:
        if word not in given:
            return []
        del given[: given.index(word) + 1]
    if help is None or help.code != 0:
        return []
    given = given[: given.index("--")] if "--" in given else given
    options = [word.partition("=")[0] for word in given if word.startswith("-") and word != "-"]
    return [option for option in dict.fromkeys(options) if not _lists(help.text, option)]


def _edit(place: Place, option: str, config: Path) -> str:
    if place.cli is CODEX and option == FULL_AUTO:
        instead = " ".join(for_full_auto(place.words))
        return f"sed -i.bak 's/{FULL_AUTO}/{instead}/' {shlex.quote(str(config))}  # done for each run meanwhile"
    return f"take it out of `backends.{place.name}.command` in {config}, if a run is refused for it"


def worker_environment(pid: int | None) -> Mapping[str, str] | None:
    """The environment of a worker of this machine; None where that cannot be read."""
    if pid is None:
        return None
    import psutil

    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return None
