"""Which model runs a task, and requests about the configuration, as `dispatch-submit` does and asks it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support import sandbox as sandboxes
from tests.support.sandbox import Completed, Sandbox

CONFIG = """\
# Mine.
default: opus
backends:
  claude: {command: claude -p}
models:
  opus: {backend: claude}
  sonnet: {backend: claude}  # the quick one
  haiku: {backend: claude}
aliases:
  quick: {model: sonnet}
"""
LISTING = "opus-4.6 - Claude 4.6 Opus\ngpt-5.9 - GPT 5.9 (current)\ngemini-3.1-pro - Gemini 3.1 Pro\n"
HELD = ("--hold", "--json")


@pytest.fixture
def box(tmp_path: Path, redis_url: str) -> Iterator[Sandbox]:
    """A machine with the CLIs `claude` and `agent`, and a configuration with claude's models; nobody runs the tasks."""
    with sandboxes.opened(tmp_path) as box:
        box.env["DISPATCH_REDIS_URL"] = redis_url
        install(box, claude="exit 9", agent=f"test \"$*\" = models && printf '{LISTING}'")
        box.home.mkdir(mode=0o700)
        (box.home / "config.yaml").write_text(CONFIG)
        yield box


def install(box: Sandbox, **programs: str) -> None:
    """Put programs on the PATH, before which nothing else is but the commands of `dispatch` and the system's."""
    folder = box.folder / "bin"
    folder.mkdir()
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    box.env["PATH"] = f"{folder}:{sandboxes.BIN}:/usr/bin:/bin"


def say(box: Sandbox, *words: str) -> Completed:
    return box.run(*words, program="dispatch-submit", check=False)


def config(box: Sandbox) -> Mapping[str, object]:
    read: Mapping[str, object] = yaml.safe_load((box.home / "config.yaml").read_text())
    return read


def nothing_was_dispatched(box: Sandbox) -> bool:
    return not (box.project / ".dispatch").exists()


# -- Requests about the configuration ---------------------------------------------------------------------------------


def test_a_request_in_words_changes_the_file_and_dispatches_nothing(box: Sandbox) -> None:
    done = say(box, "add gpt-5.9 to my config, please")

    assert done.code == 0, done.stderr
    assert "`gpt-5.9`" in done.stdout
    assert config(box)["models"]["gpt-5.9"] == {"backend": "cursor"}  # type: ignore[index]
    assert "# Mine.\n" in (box.home / "config.yaml").read_text()
    assert nothing_was_dispatched(box)


def test_words_need_no_quotes(box: Sandbox) -> None:
    assert say(box, "switch", "default", "to", "sonnet").code == 0
    assert config(box)["default"] == "sonnet"


def test_an_alias_is_made_with_its_prompt(box: Sandbox) -> None:
    prompt = "You are a security reviewer. Focus on OWASP Top 10: injection & auth."
    done = say(box, f"create a security-reviewer alias using opus with prompt: {prompt}")

    assert done.code == 0, done.stderr
    assert config(box)["aliases"]["security-reviewer"] == {"model": "opus", "prompt": f"{prompt}\n"}  # type: ignore[index]


def test_an_agent_with_a_command_is_added_and_can_be_used(box: Sandbox) -> None:
    done = say(box, "add a new agent foo that runs `cat --number`")

    assert done.code == 0, done.stderr
    assert config(box)["backends"]["foo"] == {"command": "cat --number\n"}  # type: ignore[index]
    assert nothing_was_dispatched(box)
    assert say(box, "--model", "foo", "fix it", *HELD).json["model"] == "foo"


def test_an_alias_for_a_new_model_adds_both(box: Sandbox) -> None:
    done = say(box, "add a fast model called speedy that uses composer-1.5 via cursor")

    assert done.code == 0, done.stderr
    assert config(box)["models"]["composer-1.5"] == {"backend": "cursor"}  # type: ignore[index]
    assert config(box)["aliases"]["speedy"] == {"model": "composer-1.5"}  # type: ignore[index]


def test_a_model_that_is_not_offered_is_refused_with_what_to_do(box: Sandbox) -> None:
    done = say(box, "add gpt-7 to my config")

    assert done.code == 2
    assert "Model `gpt-7` isn't available" in done.stderr
    assert "run `agent models` to see what's available" in done.stderr
    assert (box.home / "config.yaml").read_text() == CONFIG


def test_what_cannot_be_done_is_refused_and_the_file_stays(box: Sandbox) -> None:
    done = say(box, "remove opus from my config")

    assert done.code == 2
    assert "`opus` is the default" in done.stderr
    assert (box.home / "config.yaml").read_text() == CONFIG


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("update my config to use sonnet for reviews", "dispatch config default sonnet"),
        ("delete quick", "dispatch config alias quick --remove"),
    ],
)
def test_what_is_not_plain_is_answered_with_both_commands(box: Sandbox, words: str, command: str) -> None:
    done = say(box, words)

    assert done.code == 2
    assert f"hint: {command}\n" in done.stderr
    assert f"dispatch submit --model opus '{words}'" in done.stderr
    assert (box.home / "config.yaml").read_text() == CONFIG
    assert nothing_was_dispatched(box)


@pytest.mark.parametrize("option", [("--model", "opus"), ("-i", "Do it"), ("--title", "T"), ("--shared",)])
def test_an_option_of_tasks_makes_it_a_task(box: Sandbox, option: tuple[str, ...]) -> None:
    done = say(box, "remove haiku", *option, "--dry-run")

    assert done.code == 0, done.stderr
    assert "Would dispatch" in done.stdout


def test_a_dry_run_says_what_would_be_done(box: Sandbox) -> None:
    done = say(box, "remove haiku", "--dry-run")

    assert (done.code, done.stdout) == (0, "Would do: dispatch config remove-model haiku\n")
    assert (box.home / "config.yaml").read_text() == CONFIG


def test_a_dry_run_refuses_what_could_not_be_done(box: Sandbox) -> None:
    done = say(box, "remove opus", "--dry-run")

    assert (done.code, done.stdout) == (2, "")
    assert "`opus` is the default" in done.stderr


def test_a_request_has_an_answer_in_json(box: Sandbox) -> None:
    said = say(box, "remove haiku", "--json").json

    assert said["dispatched"] is False
    assert any("haiku" in sentence for sentence in said["said"])


def test_a_question_about_the_configuration_is_answered(box: Sandbox) -> None:
    assert say(box, "what's in my config?").stdout == box.run("config", "show").stdout
    assert say(box, "where is my config").stdout == f"{box.home}/config.yaml\n"


def test_on_a_terminal_it_is_asked_whether_it_is_a_task(box: Sandbox) -> None:
    terminal = box.on_terminal("delete quick")
    terminal.read_until("dispatch config alias quick --remove")
    terminal.read_until("(config, task): ")
    terminal.type("config")

    assert terminal.wait() == 0, terminal.shown
    assert not config(box)["aliases"]
    assert nothing_was_dispatched(box)


def test_a_request_before_the_first_run_comes_after_it(box: Sandbox) -> None:
    (box.home / "config.yaml").unlink()

    done = say(box, "set default to sonnet")

    assert done.code == 0, done.stderr
    assert config(box)["default"] == "sonnet"
    assert "gpt-5.9" in config(box)["models"]  # type: ignore[operator]


# -- Which model ------------------------------------------------------------------------------------------------------


def test_the_output_says_which_model_and_why(box: Sandbox) -> None:
    assert "using opus (your default)" in say(box, "fix the login", "--hold").stdout
    assert "using sonnet (quick → sonnet, named in the prompt)" in say(box, "use quick to fix it", "--hold").stdout
    assert "(named in the prompt, the last of opus, haiku)" in say(box, "have opus plan; use haiku", "--hold").stdout


def test_a_wrong_name_in_a_plain_request_is_refused_with_the_reason(box: Sandbox) -> None:
    done = say(box, "create an alias called ../../x using opus")

    assert done.code == 2
    assert "not a name for an alias: `../../x`" in done.stderr
    assert "dispatch config alias NAME opus" in done.stderr
    assert (box.home / "config.yaml").read_text() == CONFIG
    assert nothing_was_dispatched(box)


def test_an_alias_is_made_and_becomes_the_default(box: Sandbox) -> None:
    done = say(box, 'Add an alias "terse" using sonnet that answers in one line, and make it the default')

    assert done.code == 0, done.stderr
    assert config(box)["aliases"]["terse"]["prompt"].strip() == "You are an agent that answers in one line."  # type: ignore[index]
    assert config(box)["default"] == "terse"


def test_a_word_that_is_perhaps_no_name_is_told_with_the_way_out(box: Sandbox) -> None:
    done = say(box, "make a quick fix", *HELD)

    assert done.json["model"] == "sonnet"
    assert '`quick` in "make a quick fix"' in done.stderr
    assert "--model NAME" in done.stderr


def test_a_model_that_is_unknown_is_looked_up_added_and_used(box: Sandbox) -> None:
    done = say(box, "use gpt-5.9 to fix the login", *HELD)

    assert done.code == 0, done.stderr
    assert done.json["model"] == "gpt-5.9"
    assert "`gpt-5.9`" in done.stderr
    assert config(box)["models"]["gpt-5.9"] == {"backend": "cursor"}  # type: ignore[index]


@pytest.mark.parametrize("words", [("--model", "sonnet-4.7", "fix it"), ("dispatch sonnet-4.7 to fix it",)])
def test_a_version_of_claude_goes_to_claude(box: Sandbox, words: tuple[str, ...]) -> None:
    done = say(box, *words, *HELD)

    assert done.code == 0, done.stderr
    assert config(box)["models"]["sonnet-4.7"] == {"backend": "claude"}  # type: ignore[index]


def test_a_family_is_looked_up_too(box: Sandbox) -> None:
    assert say(box, "use gemini to fix the login", *HELD).json["model"] == "gemini-3.1-pro"


def test_a_cli_by_its_name_takes_its_own_model(box: Sandbox) -> None:
    done = say(box, "use claude to fix the login", *HELD)

    assert done.json["model"] == "claude"
    assert config(box)["models"]["claude"] == {"backend": "claude"}  # type: ignore[index]


def test_cursor_by_its_name_takes_its_own_model_and_it_is_said(box: Sandbox) -> None:
    done = say(box, "use cursor to fix the login", *HELD)

    assert done.json["model"] == "cursor"
    assert config(box)["models"]["cursor"] == {"backend": "cursor"}  # type: ignore[index]
    assert '`cursor` in "use cursor to fix" was taken for the model' in done.stderr


def test_a_cursor_of_a_database_is_none_of_the_cli(box: Sandbox) -> None:
    assert say(box, "use a cursor to read the rows", *HELD).json["model"] == "opus"
    assert (box.home / "config.yaml").read_text() == CONFIG


def test_an_id_in_words_is_looked_up_too(box: Sandbox) -> None:
    assert say(box, "use gpt 5.9 to fix the login", *HELD).json["model"] == "gpt-5.9"


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("--model", "gpt-59", "fix it"), "gpt-5.9"),
        (("--model", "sonet", "fix it"), "sonnet"),
        (("use o3 to fix it",), ""),
    ],
)
def test_a_model_that_nobody_has_is_refused(box: Sandbox, words: tuple[str, ...], near: str) -> None:
    done = say(box, *words)

    assert done.code == 2
    assert "isn't available" in done.stderr
    assert f"did you mean `{near}`" in done.stderr if near else "did you mean" not in done.stderr
    assert "check your Cursor/Claude/OpenAI subscription" in done.stderr
    assert ("not meant as a model?" in done.stderr) is ("--model" not in words)
    assert (box.home / "config.yaml").read_text() == CONFIG
    assert nothing_was_dispatched(box)


def test_a_dry_run_adds_no_model(box: Sandbox) -> None:
    done = say(box, "use gpt-5.9 to fix it", "--dry-run")

    assert "using gpt-5.9" in done.stdout
    assert (box.home / "config.yaml").read_text() == CONFIG


@pytest.mark.parametrize("way", ["prompt", "file"])
def test_a_dry_run_before_the_first_run_goes_by_what_that_would_find_and_writes_nothing(box: Sandbox, way: str) -> None:
    (box.home / "config.yaml").unlink()
    tasks = box.folder / "tasks.yaml"
    tasks.write_text("- {prompt: fix it, model: gpt-5.9}\n")

    done = say(box, *(["use gpt-5.9 to fix it"] if way == "prompt" else ["-f", str(tasks)]), "--dry-run")

    assert "using gpt-5.9" in done.stdout
    assert f"Without --dry-run {box.home}/config.yaml is written, with `" in done.stderr
    assert list(box.home.iterdir()) == []
    assert nothing_was_dispatched(box)


def test_tasks_of_a_file_may_name_unknown_models(box: Sandbox) -> None:
    (box.project / "tasks.yaml").write_text(
        "- {prompt: use gpt-5.9 to plan it, hold: true}\n- {prompt: do it, hold: true}"
    )

    done = say(box, "-f", "tasks.yaml", "--json")

    assert [task["model"] for task in done.json] == ["gpt-5.9", "opus"]
    assert "gpt-5.9" in config(box)["models"]  # type: ignore[operator]


FILE = "- {prompt: use haiku to plan it}\n- {prompt: do it}\n- {prompt: test it}\n- {prompt: end it, model: sonnet}\n"


@pytest.fixture
def tasks(box: Sandbox) -> str:
    """The name of a file with tasks that nobody begins, two of which name no model."""
    (box.project / "tasks.yaml").write_text(FILE.replace("}", ", hold: true}"))
    return "tasks.yaml"


def test_of_a_files_tasks_it_is_said_which_models_they_use_and_why(box: Sandbox, tasks: str) -> None:
    told = ["1 task uses haiku (named in the prompt).", "2 tasks use opus (your default)."]

    assert say(box, "-f", tasks, "--dry-run").stdout.splitlines()[-2:] == told
    assert say(box, "-f", tasks).stdout.splitlines()[-2:] == told


# -- Asked on a terminal ----------------------------------------------------------------------------------------------

QUESTION = "I'll dispatch this using opus (your default). Sound good?"


@pytest.mark.parametrize("answer", ["", "y", "Yes!"])
def test_the_default_is_confirmed(box: Sandbox, answer: str) -> None:
    terminal = box.on_terminal("fix the login", "--hold")
    terminal.read_until(QUESTION)
    assert nothing_was_dispatched(box)
    terminal.type(answer)

    assert terminal.wait() == 0, terminal.shown
    assert "using opus (your default)" in terminal.shown.partition(QUESTION)[2]


def test_the_default_is_confirmed_once_for_all_tasks_of_a_file(box: Sandbox, tasks: str) -> None:
    terminal = box.on_terminal("-f", tasks)
    terminal.read_until("I'll dispatch 2 of 4 tasks using opus (your default). Sound good?")
    assert nothing_was_dispatched(box)
    terminal.type("sonnet")

    assert terminal.wait() == 0, terminal.shown
    assert "2 tasks use sonnet (your answer)." in terminal.shown
    assert "1 task uses haiku (named in the prompt)." in terminal.shown
    assert "Sound good?" not in terminal.shown.partition("Sound good?")[2]


@pytest.mark.parametrize("words", [("--yes",), ("--model", "opus")])
def test_the_tasks_of_a_file_are_not_asked_about_where_that_is_plain(
    box: Sandbox, tasks: str, words: tuple[str, ...]
) -> None:
    terminal = box.on_terminal("-f", tasks, *words)

    assert terminal.wait() == 0, terminal.shown
    assert "Sound good?" not in terminal.shown


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("sonnet", "using sonnet (your answer)"),
        ("no, use quick please", "using sonnet (quick → sonnet, your answer)"),
        ("gpt-5.9", "using gpt-5.9 (your answer)"),
    ],
)
def test_another_model_may_be_named(box: Sandbox, answer: str, said: str) -> None:
    terminal = box.on_terminal("fix the login", "--hold")
    terminal.read_until(QUESTION)
    terminal.type(answer)

    assert terminal.wait() == 0, terminal.shown
    assert said in terminal.shown


def test_an_answer_that_is_no_model_is_asked_again(box: Sandbox) -> None:
    terminal = box.on_terminal("fix the login", "--hold")
    terminal.read_until(QUESTION)
    terminal.type("sonet")
    assert "did you mean `sonnet`" in terminal.read_until(QUESTION)
    terminal.type("sonnet")

    assert terminal.wait() == 0, terminal.shown
    assert "using sonnet" in terminal.shown


def test_a_no_dispatches_nothing(box: Sandbox) -> None:
    terminal = box.on_terminal("fix the login")
    terminal.read_until(QUESTION)
    terminal.type("n")

    assert terminal.wait() == 130
    assert "Nothing was dispatched" in terminal.shown
    assert nothing_was_dispatched(box)


def test_a_word_that_is_perhaps_no_name_is_asked_about(box: Sandbox) -> None:
    terminal = box.on_terminal("make a quick fix", "--hold")
    terminal.read_until('using sonnet ("make a quick fix": quick → sonnet, named in the prompt). Sound good?')
    terminal.type("opus")

    assert terminal.wait() == 0, terminal.shown
    assert "using opus (your answer)" in terminal.shown


@pytest.mark.parametrize("words", [("use sonnet to fix it",), ("fix it", "--model", "sonnet"), ("fix it", "--yes")])
def test_what_is_plain_is_not_asked(box: Sandbox, words: tuple[str, ...]) -> None:
    terminal = box.on_terminal(*words, "--hold")

    assert terminal.wait() == 0, terminal.shown
    assert "Sound good?" not in terminal.shown


def test_the_first_run_asks_for_the_default_and_goes_on(box: Sandbox) -> None:
    (box.home / "config.yaml").unlink()
    terminal = box.on_terminal("fix the login", "--hold")
    terminal.read_until("Which model should be")
    terminal.type("sonnet")

    assert terminal.wait() == 0, terminal.shown
    assert config(box)["default"] == "sonnet"
    assert "using sonnet (your default)" in terminal.shown
    assert "Sound good?" not in terminal.shown


def test_the_default_may_be_chosen_by_its_number(box: Sandbox) -> None:
    (box.home / "config.yaml").unlink()
    terminal = box.on_terminal("fix the login", "--hold")
    assert "  2  sonnet" in terminal.read_until("Its number or name")
    terminal.type("9")
    terminal.read_until("`9` is none of these")
    terminal.read_until("Its number or name")
    terminal.type("2")

    assert terminal.wait() == 0, terminal.shown
    assert config(box)["default"] == "sonnet"


@pytest.mark.parametrize("word", ["dispatch", "/dispatch"])
def test_the_word_dispatch_alone_only_warms_up(box: Sandbox, word: str) -> None:
    done = say(box, word)

    assert done.stdout.startswith("Config loaded")
    assert nothing_was_dispatched(box)
