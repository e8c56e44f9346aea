"""Agents with commands, and aliases with what they are for, in a user's words; and tasks that speak of agents."""

import time

import pytest

from dispatch_queue.config.edit import AddAgent, AddAlias, AddModel, Edit
from dispatch_queue.config.wish import Changes, Unclear
from dispatch_queue.config.words import read
from tests.unit.test_config_words import CONFIG, understood


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("add a new agent foo that runs `mycli --yes`", "mycli --yes"),
        ("add an agent called foo that runs `mycli`", "mycli"),
        ('Please add agent foo using the command "mycli -p {prompt}" to my config.', "mycli -p {prompt}"),
        ("could you add a new agent named `foo` that runs mycli --yes?", "mycli --yes"),
        ("register agent foo: runs ./bin/agent --now", "./bin/agent --now"),
        ("add agent foo running codex exec --json", "codex exec --json"),
        ("add an agent foo: `mycli --yes`", "mycli --yes"),
        ("add agent foo = mycli --yes", "mycli --yes"),
        ("I'd like to set up an agent foo which uses `my 'own' cli`, please", "my 'own' cli"),
    ],
)
def test_an_agent_is_added_with_its_command(text: str, command: str) -> None:
    assert understood(text) == Changes((AddAgent("foo", command),), sure=True)


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("add an agent called foo that uses `haiku`", (AddAlias("foo", "haiku"),)),
        ("add an agent foo using haiku", (AddAlias("foo", "haiku"),)),
        (
            "create a strict alias using opus that reviews strictly",
            (AddAlias("strict", "opus", "You are an agent that reviews strictly."),),
        ),
        (
            "create a reviewer alias using opus that reviews strictly, and doesn't nit-pick.",
            (AddAlias("reviewer", "opus", "You are an agent that reviews strictly, and doesn't nit-pick."),),
        ),
        (
            "add an agent called foo using opus that is strict",
            (AddAlias("foo", "opus", "You are an agent that is strict."),),
        ),
        (
            "create a reviewer alias that reviews strictly using opus",
            (AddAlias("reviewer", "opus", "You are an agent that reviews strictly."),),
        ),
        (
            "add an alias called sec for gpt-5.9 which minds\nOWASP",
            (AddModel("gpt-5.9"), AddAlias("sec", "gpt-5.9", "You are an agent which minds\nOWASP.")),
        ),
    ],
)
def test_an_agent_with_a_model_is_an_alias_and_what_it_is_for_its_prompt(text: str, edits: tuple[Edit, ...]) -> None:
    assert understood(text) == Changes(edits, sure=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("add agent harvey", "harvey"),
        ("add an agent called harvey", "harvey"),
        ("add a new agent harvey", "harvey"),
        ("I'd like you to please add another new agent named Harvey", "Harvey"),
        ("add agent called memory", "memory"),
        ("set up an agent called harvey", "harvey"),
        ("add an agent called harvey to my config", "harvey"),
        ("add agent harvey to dispatch", "harvey"),
        ("add an agent", "NAME"),
        ("add new agent", "NAME"),
    ],
)
def test_an_agent_of_whom_no_more_is_said_gets_both_commands(text: str, name: str) -> None:
    assert understood(text) == Unclear(
        f"dispatch config add-agent {name} COMMAND  # or: dispatch config alias {name} MODEL"
    )


def test_a_word_that_may_be_a_command_is_not_made_one() -> None:
    assert understood("add an agent called harvey that runs mycli") == Unclear("dispatch config add-agent harvey mycli")


TASKS = """\
add agents to the CRM
add an agent to the CRM module
add agent memory
add agent orchestration
add agent tests to dispatch
add agent limits to the config
add an agent: see `docs/agents.md`
create an agent called support-bot that answers customer emails
create an alias type that wraps User using generics
add agent tests
add a new agent page
add an agent header to every request
add an agent called nightly that runs every night
add an agent foo that runs the tests with --verbose
add an agent foo that runs `a` and `b`
add an agent that runs `make test` on every push
add a user agent that runs `curl --head`
add agents that run `make` in parallel to the scheduler
write an agent called foo that runs `mycli --yes`
create an agent class with `run` and `stop`
create a new agent registry using sqlite
create a path alias using webpack that resolves @ to src
create an alias type for User that is readonly
""".splitlines()


@pytest.mark.parametrize("text", TASKS)
def test_a_task_about_agents_is_a_task(text: str) -> None:
    assert read(text, CONFIG) is None


@pytest.mark.parametrize(
    "text",
    [
        "agent runs " * 360,
        "add agent foo runs " + "a " * 1900,
        "add agent foo with `" + "x" * 3900,
        "alias that " * 300,
    ],
)
def test_no_long_text_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    read(text, CONFIG)
    assert time.process_time() - began < 1
