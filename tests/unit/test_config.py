"""What a config file holds, and what is said about one that cannot be used."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from dispatch_queue.config.load import REDIS_VARIABLE, Loaded, load
from dispatch_queue.config.schema import Alias, Backend, Config, LimitsSection, Model, RedisSection, WorkerSection
from dispatch_queue.errors import BadConfig, Exit

SEED_FILE = """\
# Written by the set-up of the original skill.
default: opus  # by name or alias

backends:
  claude:
    command: >
      env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE
      claude -p --dangerously-skip-permissions

  cursor:
    command: >
      agent -p --force --workspace "$(pwd)"

  codex:
    command: >
      codex exec --full-auto -C "$(pwd)"

models:
  # Claude
  opus:            { backend: claude }
  sonnet:          { backend: claude }
  # GPT
  gpt-5.3-codex:   { backend: codex }
  5.10:            { backend: cursor }

aliases:
  reviewer:
    model: opus
    prompt: >
      Look for auth flaws
      and injection.
  quick:
    model: sonnet
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "dispatch"
    home.mkdir(mode=0o700)
    return home


def load_text(home: Path, text: str, **environ: str) -> Loaded:
    (home / "config.yaml").write_text(text)
    return load(home, environ)


def refused(home: Path, text: str) -> BadConfig:
    with pytest.raises(BadConfig) as caught:
        load_text(home, text)
    assert caught.value.exit_status == Exit.CONFIG
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_no_file_is_the_default_config(home: Path) -> None:
    assert load(home, {}) == Loaded(Config(), [], exists=False)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_file_is_the_default_config(home: Path, text: str) -> None:
    assert load_text(home, text) == Loaded(Config(), [], exists=True)


def test_a_file_of_the_original_set_up_loads_unchanged(home: Path) -> None:
    loaded = load_text(home, SEED_FILE)

    assert loaded.notices == []
    assert loaded.config == Config(
        default="opus",
        backends={
            "claude": Backend("env -u CLAUDE_CODE_ENTRYPOINT -u CLAUDECODE claude -p --dangerously-skip-permissions"),
            "cursor": Backend('agent -p --force --workspace "$(pwd)"'),
            "codex": Backend('codex exec --full-auto -C "$(pwd)"'),
        },
        models={
            "opus": Model("claude"),
            "sonnet": Model("claude"),
            "gpt-5.3-codex": Model("codex"),
            "5.10": Model("cursor"),
        },
        aliases={
            "reviewer": Alias("opus", "Look for auth flaws and injection."),
            "quick": Alias("sonnet"),
        },
    )


def test_our_own_sections_are_typed(home: Path) -> None:
    config = load_text(
        home,
        """
redis: {url: "redis://example.invalid:6379/0"}
worker:
  slots: 4
  question_timeout: 90
  drain: 2.5
  backends: [claude, shell]
  pool: big
backends:
  mine: {command: "my-agent --fast", env: [MY_KEY, MY_OTHER_*]}
models: {opus: {backend: claude}, sonnet: {backend: claude}}
limits: {models: {opus: 2}, backends: {claude: 4}, hosts: {build-1: 3}}
fallback: {opus: [sonnet]}
notify: {on: done}
""",
    ).config

    assert config.redis == RedisSection("redis://example.invalid:6379/0")
    assert config.worker == WorkerSection(
        slots=4, question_timeout=90.0, drain=2.5, backends=("claude", "shell"), pool="big"
    )
    assert config.backends == {"mine": Backend("my-agent --fast", ("MY_KEY", "MY_OTHER_*"))}
    assert config.limits == LimitsSection({"opus": 2}, {"claude": 4}, {"build-1": 3})
    assert (config.fallback, config.notify) == ({"opus": ("sonnet",)}, {"on": "done"})


def test_shell_is_a_model_without_being_written_down() -> None:
    assert Config().backend_of("shell") == "shell"
    assert Config().backend_of("opus") is None


def test_keys_without_a_value_are_left_at_their_defaults(home: Path) -> None:
    assert load_text(home, "default:\nmodels: ~\nredis: {url: null}\nworker: {pool: }\n").config == Config()


def test_the_old_format_gives_each_agent_its_own_backend(home: Path) -> None:
    loaded = load_text(
        home,
        """
default: harvey
agents:
  harvey:
    command: >
      agent -p --force --model gpt-5 --workspace "$(pwd)"
  claude:
    command: claude -p
""",
    )

    assert loaded.config.default == "harvey"
    assert loaded.config.models == {"harvey": Model("harvey"), "claude": Model("claude")}
    assert loaded.config.command_of("harvey") == 'agent -p --force --model gpt-5 --workspace "$(pwd)"'
    assert len(loaded.notices) == 1
    assert loaded.notices[0].endswith("it works as before; to upgrade: dispatch config migrate")
    assert "config.yaml:3: " in loaded.notices[0]


def test_an_unknown_key_is_noticed_with_the_nearest_known_one(home: Path) -> None:
    loaded = load_text(home, "defualt: opus\nworker:\n  slot: 3\nmodels:\n  opus: {backend: claude, x: 1}\n")

    assert loaded.config == Config(models={"opus": Model("claude")})
    assert [notice.split("config.yaml:")[1] for notice in loaded.notices] == [
        "1: unknown key `defualt` is ignored; did you mean `default`?",
        "3: unknown key `worker.slot` is ignored; did you mean `slots`?",
        "5: unknown key `models.opus.x` is ignored",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:\n\topus: {backend: claude}\n", ":2: a tab in `opus: {backend: claude}`"),
        ("models: {}\nmodels: {}\n", ":2: models: is written twice, first in line 1"),
        (
            "models:\n  a: {backend: codex}\n  b: {backend: codex}\n  a: {backend: cursor}\n",
            ":4: models.a: is written twice, first in line 2",
        ),
        ("- opus\n", ":1: must be keys with values, not a list"),
        ("opus\n", ":1: must be keys with values, not `opus`"),
        ("models: [opus\n", ":2: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", ":2: not YAML: but found another document, in `---`"),
        ("default: \x07\n", ":1: has a character that YAML does not allow: `\\x07`"),
        ("models: {[a]: {backend: codex}}\n", ":1: models: a key that is not plain text"),
        ("models: opus\n", ":1: models: must be a mapping, not `opus`"),
        ("models:\n  opus: claude\n", ":2: models.opus: must be a mapping, not `claude`"),
        ("models:\n  opus:\n", ":2: models.opus: must be a mapping, not nothing"),
        ("models:\n  opus: {}\n", ":2: models.opus.backend: is missing"),
        ("models:\n  opus: {backend: [a]}\n", ":2: models.opus.backend: must be text, not a list"),
        ("models:\n  opus: {backend: claud}\n", ":2: models.opus.backend: unknown backend `claud`"),
        ("models:\n  opus;rm -rf ~: {backend: claude}\n", ":2: models.opus;rm -rf ~: not a model id: `opus;rm -rf ~`"),
        ("models:\n  $(id): {backend: claude}\n", ":2: models.$(id): not a model id: `$(id)`"),
        ("models:\n  --yolo: {backend: claude}\n", ":2: models.--yolo: not a model id: `--yolo`"),
        ("models:\n  shell: {backend: claude}\n", ":2: models.shell: is built in and cannot be configured"),
        ("backends:\n  shell: {command: sh}\n", ":2: backends.shell: is built in and cannot be configured"),
        ("backends:\n  mine: {}\n", ":2: backends.mine: has no `command`"),
        ("backends:\n  my.own/x: {command: x}\n", ":2: backends.my.own/x: not a name for a backend: `my.own/x`"),
        ("backends:\n  mine: {command: ''}\n", ":2: backends.mine.command: is empty"),
        (
            'backends:\n  mine:\n    command: agent "-p\n',
            ':3: backends.mine.command: unclosed quote in `agent "-p`',
        ),
        (
            "backends:\n  mine:\n    command: agent -p | tee log\n",
            ":3: backends.mine.command: `|` needs a shell, and none runs it",
        ),
        (
            "backends:\n  mine:\n    command: agent $(cat key)\n",
            ":3: backends.mine.command: `$(cat` needs a shell, and none runs it",
        ),
        (
            "backends:\n  mine:\n    command: sh -c 'agent {prompt}'\n",
            ":3: backends.mine.command: `agent {prompt}` puts the prompt inside other text",
        ),
        ("backends:\n  mine: {command: x, env: [A=b]}\n", ":2: backends.mine.env.0: not the name of a variable: `A=b`"),
        (
            "models:\n  opus: {backend: claude}\naliases:\n  Opus: {model: opus}\n",
            ":4: aliases.Opus: is the name of the model `opus`",
        ),
        ("aliases:\n  quick: {model: sonet}\n", ":2: aliases.quick.model: unknown model `sonet`"),
        (
            "aliases:\n  a: {model: shell}\n  b: {model: a}\n",
            ":3: aliases.b.model: `a` is an alias, not a model",
        ),
        (
            "aliases:\n  a: {model: b}\n  b: {model: a}\n",
            ":2: aliases.a.model: `b` is an alias, not a model",
        ),
        (
            "aliases:\n  quick: {model: shell}\nfallback:\n  shell: [quick]\n",
            ":4: fallback.shell.0: `quick` is an alias, not a model",
        ),
        (
            "aliases:\n  quick: {model: shell}\nfallback:\n  quick: [shell]\n",
            ":4: fallback.quick: `quick` is an alias, not a model",
        ),
        ("aliases:\n  quick one: {model: shell}\n", ":2: aliases.quick one: not a name for an alias: `quick one`"),
        ("default: opsu\nmodels: {opus: {backend: claude}}\n", ":1: default: unknown model `opsu`"),
        ("worker: {slots: many}\n", ":1: worker.slots: must be a whole number, not `many`"),
        ("worker: {slots: 0}\n", ":1: worker.slots: must be 1 or more, not `0`"),
        ("worker: {question_timeout: 3m}\n", ":1: worker.question_timeout: must be a number, not `3m`"),
        ("worker: {question_timeout: .inf}\n", ":1: worker.question_timeout: must be a number, not `.inf`"),
        ("worker: {question_timeout: inf}\n", ":1: worker.question_timeout: must be seconds, not `inf`"),
        ("worker: {drain: -1}\n", ":1: worker.drain: must be seconds, not `-1.0`"),
        ("worker: {backends: claude}\n", ":1: worker.backends: must be a list, not `claude`"),
        ("worker: {backends: [claud]}\n", ":1: worker.backends.0: unknown backend `claud`"),
        ("worker: {pool: host}\n", ":1: worker.pool: not a name for a pool: `host`"),
        ("limits: {models: {shell: none}}\n", ":1: limits.models.shell: must be a whole number, not `none`"),
        ("limits: {models: {shell: 0}}\n", ":1: limits.models.shell: must be 1 or more, not `0`"),
        ("limits: {models: {opus: 1}}\n", ":1: limits.models.opus: unknown model `opus`"),
        ("limits: {backends: {claud: 1}}\n", ":1: limits.backends.claud: unknown backend `claud`"),
        ("limits: {opus: 1}\n", ":1: limits.opus: unknown key"),
        ("fallback: {shell: opus}\n", ":1: fallback.shell: must be a list, not `opus`"),
        ("fallback: {shell: [opus]}\n", ":1: fallback.shell.0: unknown model `opus`"),
        ("fallback: {shell: [shell]}\n", ":1: fallback.shell.0: `shell` cannot take over from itself"),
        ("agents: harvey\n", ":1: agents: must be names with a `command` each, not `harvey`"),
        ("agents:\n  harvey: {}\n", ":2: agents.harvey: has no `command`"),
        ('agents:\n  harvey: {command: "a \'b"}\n', ":2: agents.harvey.command: unclosed quote in `a 'b`"),
        (
            "agents:\n  harvey: {command: a}\nbackends:\n  harvey: {command: b}\n",
            ":2: agents.harvey: is also under `backends:`",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line_and_key(home: Path, text: str, said: str) -> None:
    message = refused(home, text).message

    assert message.split("config.yaml", 1)[1] == said or message.split("config.yaml", 1)[1].startswith(f"{said}, in ")


def test_a_password_in_the_redis_address_is_not_repeated(home: Path) -> None:
    error = refused(home, "redis: {url: 'http://:hunter2@example.invalid'}\n")

    assert ":1: redis.url: not the address of a Redis" in error.message
    assert "hunter2" not in f"{error.message}{error.hint}"


def test_a_hint_proposes_the_nearest_name(home: Path) -> None:
    assert "did you mean `claude`?" in str(refused(home, "models: {opus: {backend: claud}}\n").hint)
    assert "did you mean `opus`?" in str(refused(home, "default: opsu\nmodels: {opus: {backend: claude}}\n").hint)


def test_the_first_of_several_problems_is_told_and_the_others_counted(home: Path) -> None:
    error = refused(home, "worker: {slots: 0, drain: -1}\ndefault: x\n")

    assert ":1: worker.drain: " in error.message
    assert str(error.hint).endswith("; 2 more: dispatch config check")


BOMB = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "models: " + "[" * 60 + "]" * 60,
        "models: " + "[" * 60_000,
        "notify: {" + ", ".join(f"m{number}: 1" for number in range(11_000)) + "}",
        "notify: &a [*a]\n",
    ],
    ids=["bomb", "deep", "very deep", "wide", "endless"],
)
def test_a_file_that_unfolds_without_end_is_refused(home: Path, text: str) -> None:
    assert "holds more than" in refused(home, text).message or "too deeply" in refused(home, text).message


def test_a_yaml_alias_may_be_used(home: Path) -> None:
    assert load_text(home, "models:\n  a: &m {backend: codex}\n  b: *m\n").config.models == {
        "a": Model("codex"),
        "b": Model("codex"),
    }


def test_a_file_that_is_too_large_is_refused(home: Path) -> None:
    assert "is larger than 256 KiB" in refused(home, "# " + "x" * 256 * 1024).message


def test_a_folder_in_place_of_the_file_is_refused(home: Path) -> None:
    (home / "config.yaml").mkdir()

    with pytest.raises(BadConfig, match="is a folder"):
        load(home, {})


def test_a_fifo_in_place_of_the_file_is_refused_at_once(home: Path) -> None:
    os.mkfifo(home / "config.yaml")

    with pytest.raises(BadConfig, match="is not a regular file"):
        load(home, {})


def test_a_link_to_nothing_is_refused_and_a_link_to_a_file_followed(home: Path) -> None:
    (home / "config.yaml").symlink_to("dotfiles.yaml")
    with pytest.raises(BadConfig, match=r"is a link to `dotfiles\.yaml`"):
        load(home, {})

    (home / "dotfiles.yaml").write_text("default: shell\n")
    assert load(home, {}).config.default == "shell"


def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(BadConfig, match="cannot be read: Not a directory"):
        load(tmp_path / "home", {})


def test_text_that_is_not_utf_8_is_refused_with_its_line(home: Path) -> None:
    (home / "config.yaml").write_bytes(b"default: shell\n# caf\xe9\n")

    with pytest.raises(BadConfig, match=r"config\.yaml:2: not UTF-8: byte 0xe9"):
        load(home, {})


def test_the_home_is_shown_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".dispatch"
    home.mkdir()

    assert refused(home, "default: x").message == "~/.dispatch/config.yaml:1: default: unknown model `x`"


def test_the_environment_beats_the_file(home: Path) -> None:
    text = "redis: {url: 'redis://file.invalid'}\n"

    assert load_text(home, text, **{REDIS_VARIABLE: "unix:///run/x"}).config.redis.url == "unix:///run/x"
    assert load_text(home, text, **{REDIS_VARIABLE: ""}).config.redis.url == "redis://file.invalid"
    (home / "config.yaml").unlink()
    assert load(home, {REDIS_VARIABLE: "redis://env.invalid"}).config.redis.url == "redis://env.invalid"
    with pytest.raises(BadConfig, match=REDIS_VARIABLE):
        load(home, {REDIS_VARIABLE: "localhost"})


COPY = Path("run", "config.checked.json")


def test_a_checked_file_is_read_from_its_private_copy(home: Path) -> None:
    first = load_text(home, SEED_FILE + "slots: 3\n")

    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / COPY).stat().st_mode & 0o777 == 0o600
    assert load(home, {}) == first

    copy = json.loads((home / COPY).read_text())
    copy["config"]["default"] = "sonnet"
    (home / COPY).write_text(json.dumps(copy))
    assert load(home, {}).config.default == "sonnet"


def test_a_changed_file_is_checked_again(home: Path) -> None:
    load_text(home, SEED_FILE)

    assert load_text(home, SEED_FILE.replace("default: opus", "default: quick")).config.default == "quick"
    refused(home, "default: x\n")


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", '{"format": 1}', '{"format": 1, "version": 3, "text": 4}'])
def test_a_broken_copy_is_ignored_and_made_again(home: Path, broken: str) -> None:
    first = load_text(home, SEED_FILE)
    good = (home / COPY).read_text()
    (home / COPY).write_text(broken)

    assert load(home, {}) == first
    assert (home / COPY).read_text() == good


def test_a_copy_of_another_shape_is_ignored(home: Path) -> None:
    first = load_text(home, SEED_FILE)
    good = json.loads((home / COPY).read_text())
    for part in ("models", "worker", "aliases"):
        for wrong in ("null", "[]", '{"x": 1}', '"text"'):
            (home / COPY).write_text(json.dumps(good | {"config": good["config"] | {part: json.loads(wrong)}}))
            assert load(home, {}) == first


def test_a_copy_that_others_could_write_is_ignored(home: Path) -> None:
    load_text(home, SEED_FILE)
    copy = json.loads((home / COPY).read_text())
    copy["config"]["backends"]["claude"]["command"] = "evil"
    (home / COPY).write_text(json.dumps(copy))
    (home / COPY).chmod(0o622)

    assert "evil" not in str(load(home, {}).config)


def test_a_home_that_takes_no_copy_is_only_slower(home: Path) -> None:
    (home / "run").write_text("in the way")

    assert load_text(home, SEED_FILE).config.default == "opus"


def test_a_config_is_plain_and_equal_on_both_ways(home: Path) -> None:
    first = load_text(home, SEED_FILE + "notify: {a: [1, {b: ~}]}\nworker: {backends: [claude]}\n").config
    second = load(home, {}).config

    assert first == second
    assert json.loads(json.dumps(dataclasses.asdict(first))) == json.loads(json.dumps(dataclasses.asdict(second)))


def test_the_fix_of_an_alias_of_an_alias_is_one_that_can_be_made(home: Path) -> None:
    fixed = refused(home, "aliases:\n  a: {model: shell}\n  b: {model: a}\n").hint or ""
    assert fixed.startswith("dispatch config alias b shell")

    removed = refused(home, "aliases:\n  a: {model: b}\n  b: {model: a}\n").hint or ""
    assert removed.startswith("dispatch config alias a --remove")
