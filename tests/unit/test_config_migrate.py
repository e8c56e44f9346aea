"""From the old format to the new one: each name starts the command that it started before."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dispatch_queue.config.choose import choose
from dispatch_queue.config.edit import Migrate
from dispatch_queue.config.editing import edited
from dispatch_queue.config.machine import Machine
from dispatch_queue.config.parse import parse
from dispatch_queue.config.schema import Config
from dispatch_queue.errors import BadConfig
from worker.backends.table import invoke

OLD = """\
# mine
default: harvey  # the lawyer

# Agents of old
agents:
  # knows the law
  harvey:
    command: >
      agent -p --force --model gpt-5 --workspace "$(pwd)"
  claude:  # plain
    command: env -u CLAUDECODE claude -p --dangerously-skip-permissions
  deep: {command: env -u CLAUDECODE claude -p --model opus --dangerously-skip-permissions}
  slow: {command: claude -p --model opus --max-turns 9}
  pinned: {command: env -u CLAUDECODE claude -p --dangerously-skip-permissions --model claude-opus-4-6}
  law: {command: 'agent -p --force --model=gpt-5 --workspace "$(pwd)"'}
  cx: {command: codex exec --full-auto -m "o3"}
  mine: {command: "my-agent --model x {prompt}"}

# the end
worker: {slots: 2}
"""

NEW = """\
# mine
default: harvey  # the lawyer

# Agents of old
backends:
  claude:
    command: >
      env -u CLAUDECODE claude -p --dangerously-skip-permissions
  cursor:
    command: >
      agent -p --force --workspace "$(pwd)"
  slow:
    command: >
      claude -p --model opus --max-turns 9
  pinned:
    command: >
      env -u CLAUDECODE claude -p --dangerously-skip-permissions --model claude-opus-4-6
  codex:
    command: >
      codex exec --full-auto
  mine:
    command: >
      my-agent --model x {prompt}

models:
  # Claude
  opus:   { backend: claude }
  # OpenAI
  gpt-5:  { backend: cursor }
  o3:     { backend: codex }
  # Other
  # plain
  claude: { backend: claude }
  slow:   { backend: slow }
  pinned: { backend: pinned }
  mine:   { backend: mine }

aliases:
  # knows the law
  harvey: { model: gpt-5 }
  deep:   { model: opus }
  law:    { model: gpt-5 }
  cx:     { model: o3 }

# the end
worker: {slots: 2}
"""


def config_of(text: str) -> Config:
    parsed = parse(text, "config.yaml")
    assert parsed.problems == []
    return parsed.config


def migrate(text: str, path: str = "") -> tuple[str, list[str]]:
    return edited(text, [Migrate()], Machine(path), "config.yaml")


def started(config: Config, name: str | None) -> tuple[str, list[str], str | None, bytes | None]:
    """What the name starts: its backend's kind, the words besides the model, the model, its standard input."""
    choice = choose(config, "", name)
    ran = invoke(config, choice.backend, model=choice.model, prompt="P", workspace=Path("/w"), values={}, base={})
    return (*without_model(ran.argv), ran.stdin)


def without_model(argv: Sequence[str]) -> tuple[str, list[str], str | None]:
    words, model = list(argv[1:]), None
    for at, word in enumerate(argv[1:]):
        option, joined, value = word.partition("=")
        if option in ("--model", "-m") and "my-agent" not in argv[0]:
            model = value if joined else words[at + 1]
            del words[at : at + (1 if joined else 2)]
            break
    return argv[0], words, model


def test_the_old_file_becomes_the_new_one_with_its_comments() -> None:
    assert migrate(OLD)[0] == NEW


@pytest.mark.parametrize("name", ["harvey", "claude", "deep", "slow", "pinned", "law", "cx", "mine", None])
def test_each_name_starts_what_it_started_before(name: str | None) -> None:
    assert started(config_of(NEW), name) == started(config_of(OLD), name)


def test_what_became_of_each_agent_is_said() -> None:
    said = migrate(OLD)[1]

    assert said[:4] == [
        "`harvey` is now an alias for `gpt-5`, which runs with cursor.",
        "`claude` is now a model: what claude takes by itself.",
        "`deep` is now an alias for `opus`, which runs with claude.",
        "`slow` is now a model, which runs with a backend of its own.",
    ]
    assert said[-1] == "A task that was dispatched before as `cx`: dispatch retry ID --model cx"


def test_models_of_this_machine_are_added_under_names_that_are_free(tmp_path: Path) -> None:
    for program in ("claude", "codex"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    text = "default: Opus\nagents:\n  Opus: {command: my-agent}\n  gpt-5.2: {command: codex exec}\n"

    new, said = migrate(text, str(tmp_path))

    config = config_of(new)
    assert {name: model.backend for name, model in config.models.items()} == {
        "Opus": "Opus",
        "sonnet": "claude",
        "haiku": "claude",
        "codex": "codex",
        "gpt-5.3-codex": "codex",
        "gpt-5.3-codex-spark": "codex",
    }
    assert list(config.aliases) == ["gpt-5.2"]
    assert any(line.startswith("Added ") for line in said)
    assert started(config, "gpt-5.2") == started(config_of(text), "gpt-5.2")


def test_without_a_default_the_one_that_was_taken_is_written_down() -> None:
    text = "agents:\n  harvey: {command: my-agent}\n  codex-fast: {command: codex exec -m gpt-5}\n"

    new = config_of(migrate(text)[0])

    assert new.default == choose(config_of(text), "", None).model == "codex-fast"
    assert started(new, None) == started(config_of(text), None)


def test_agents_that_are_named_elsewhere_keep_their_names() -> None:
    text = (
        "agents:\n  a: {command: codex exec -m gpt-5}\n  b: {command: codex exec -m o3}\n"
        "worker: {backends: [a]}\nlimits: {backends: {b: 1}}\n"
    )

    new = config_of(migrate(text)[0])

    assert {name: model.backend for name, model in new.models.items()} == {"a": "a", "b": "b"}


def test_a_file_with_new_sections_too_keeps_what_they_mean() -> None:
    text = (
        "agents:\n  fast: {command: claude -p --model haiku}\n  old: {command: codex exec}\n"
        "backends:\n  claude: {command: claude -p}\n  codex: {command: codex exec --full-auto}\n"
        "models:\n  opus: {backend: claude}\n"
        "aliases:\n  deep: {model: opus}\n"
    )

    new = config_of(migrate(text)[0])

    assert new.aliases["fast"].model == "haiku"
    assert {name: model.backend for name, model in new.models.items()} == {
        "opus": "claude",
        "haiku": "claude",
        "old": "old",
    }
    for name in ("fast", "old", "opus", "deep"):
        assert started(new, name) == started(config_of(text), name)


@pytest.mark.parametrize(
    "text",
    [
        # an agent has the name of a backend that a model of the file uses
        "agents:\n  claude: {command: codex exec}\nmodels:\n  gpt-5.1: {backend: claude}\n",
        "agents:\n  claude: {command: claude -p --model opus}\nmodels:\n  gpt-5.1: {backend: claude}\n",
        # a model of the file runs what is built in for its backend
        "agents:\n  a: {command: codex exec --full-auto}\nmodels:\n  gpt-5.1: {backend: codex}\n",
        # the one that is named as its backend cannot share it, as its model's name is another's
        (
            "agents:\n  claude: {command: claude -p --model opus}\n  Opus: {command: codex exec}\n"
            "  fast: {command: claude -p --model haiku}\n"
        ),
        # two names that differ by case only
        "agents:\n  opus: {command: claude -p}\n  Opus: {command: codex exec}\n",
        # a name of its CLI's own choice is another agent's
        "agents:\n  codex: {command: claude -p}\n  a: {command: codex exec}\n",
        # one model of two CLIs
        "agents:\n  a: {command: codex exec -m gpt-5}\n  b: {command: agent -p --model gpt-5}\n",
    ],
)
def test_names_that_are_in_each_others_way_start_what_they_did(text: str) -> None:
    before, after = config_of(text), config_of(migrate(text)[0])

    for name in [*before.models, None]:
        assert started(after, name) == started(before, name)


def test_a_second_time_there_is_nothing_to_do() -> None:
    assert migrate(NEW) == (NEW, ["There is nothing to migrate: the file has no `agents:`."])


def test_a_file_with_errors_is_not_migrated() -> None:
    with pytest.raises(BadConfig, match="unclosed quote"):
        migrate("agents:\n  a: {command: 'agent \"-p'}\n")


NAMES = ["claude", "codex", "cursor", "opus", "Opus", "gpt-5", "harvey", "haiku", "o3"]
COMMANDS = [
    f"{program}{option}{tail}"
    for program in (
        "claude -p",
        "codex exec",
        "agent -p --force",
        "env -u X claude -p",
        "my-agent",
        "/opt/bin/agent -p",
    )
    for option in ("", " --model opus", " --model gpt-5", " --model=haiku", " --model 'o3'", " --model claude-opus-4")
    for tail in ("", ' -C "$(pwd)"')
]


@settings(max_examples=30)
@given(
    agents=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(COMMANDS), min_size=1, max_size=6),
    default=st.booleans(),
    new=st.sampled_from(["", "models: {gpt-5.1: {backend: claude}}\n", "backends: {codex: {command: codex exec}}\n"]),
)
def test_whatever_the_agents_are_each_name_starts_what_it_did(agents: dict[str, str], default: bool, new: str) -> None:
    old = new + yaml.safe_dump({"agents": {name: {"command": command} for name, command in agents.items()}})
    if default:
        old += f"default: {next(iter(agents))}\n"
    before = parse(old, "")
    assume(not before.problems)

    after = config_of(migrate(old)[0])

    for name in [*agents, None]:
        assert started(after, name) == started(before.config, name)
