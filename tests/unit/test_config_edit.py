"""What each edit makes of a file's text, and which are refused with what to do instead."""

import pytest

from dispatch_queue.config.edit import AddAgent, AddAlias, AddModel, Edit, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.editing import edited
from dispatch_queue.config.machine import Machine
from dispatch_queue.config.parse import parse
from dispatch_queue.errors import BadConfig, BadInput, DispatchError, Exit

FILE = """\
default: opus
backends:
  claude:
    command: claude -p
models:
  # Claude
  opus:    { backend: claude }
  sonnet:  { backend: claude }
  # GPT
  gpt-5.2: { backend: codex }
aliases:
  quick: { model: sonnet }
  deep:
    model: opus
    prompt: Think first.
"""
OWN = "backends:\n  mine: {command: mine}\nmodels:\n  fast: {backend: mine}\n"
NOWHERE = ""  # a PATH without a CLI


def make(*edits: Edit, text: str = FILE) -> str:
    return edited(text, edits, Machine(NOWHERE), "config.yaml")[0]


def said(*edits: Edit, text: str = FILE) -> list[str]:
    return edited(text, edits, Machine(NOWHERE), "config.yaml")[1]


def refused(*edits: Edit, text: str = FILE) -> DispatchError:
    with pytest.raises((BadInput, BadConfig)) as caught:
        make(*edits, text=text)
    assert caught.value.hint
    return caught.value


def test_a_model_goes_to_those_of_its_provider() -> None:
    assert make(AddModel("haiku", "claude")) == FILE.replace("  # GPT\n", "  haiku:   { backend: claude }\n  # GPT\n")
    assert make(AddModel("gpt-5.3", "claude")) == FILE.replace("codex }\n", "codex }\n  gpt-5.3: { backend: claude }\n")


def test_a_model_goes_below_an_empty_heading_of_its_provider() -> None:
    text = "models:\n  # OpenAI\n  # Claude\n  opus: {backend: claude}\n"

    assert "models:\n  # OpenAI\n  o3: {backend: codex}\n  # Claude\n" in make(AddModel("o3", "codex"), text=text)


def test_a_model_of_a_new_provider_gets_a_heading_where_the_others_have_ours() -> None:
    ours = FILE.replace("# GPT", "# OpenAI")

    assert make(AddModel("grok-4", "claude"), text=ours) == ours.replace(
        "codex }\n", "codex }\n  # Grok\n  grok-4:  { backend: claude }\n"
    )
    assert "# Grok" not in make(AddModel("grok-4", "claude"), text=FILE.replace("# Claude", "# good"))


def test_without_groups_a_model_goes_to_the_end() -> None:
    text = "backends: {claude: {command: c}}\nmodels:\n  opus: {backend: claude}\n  auto: {backend: cursor}\n"

    assert make(AddModel("haiku", "claude"), text=text) == text + "  haiku: {backend: claude}\n"


def test_the_backend_of_a_known_cli_is_added_with_its_first_model() -> None:
    made = make(AddModel("gpt-5.3", "codex"))

    assert '  codex:\n    command: >\n      codex exec --dangerously-bypass-approvals-and-sandbox -C "$(pwd)"\n' in made
    assert said(AddModel("gpt-5.3", "codex"))[1] == "Added model `gpt-5.3`, which runs with codex."


def test_an_agent_is_a_backend_with_its_command_and_a_model_of_that_name() -> None:
    read = parse(make(AddAgent("foo", "my-cli --yes")), "config.yaml").config

    assert read.command_of("foo") == "my-cli --yes"
    assert read.backend_of("foo") == "foo"
    assert said(AddAgent("foo", "my-cli --yes")) == ["Added agent `foo`, which runs: my-cli --yes"]


def test_an_agent_can_be_given_another_command() -> None:
    once = make(AddAgent("foo", "my-cli"))

    assert (
        parse(make(AddAgent("foo", "other --now"), text=once), "config.yaml").config.command_of("foo") == "other --now"
    )
    assert make(AddAgent("foo", "my-cli"), text=once) == once


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        (AddAgent("a b", "x"), "not a name for an agent"),
        (AddAgent("shell", "x"), "there is `shell` already"),
        (AddAgent("Opus", "x"), "there is `Opus` already"),
        (AddAgent("quick", "x"), "there is `quick` already"),
        (AddAgent("foo", "x | y"), "needs a shell"),
        (AddAgent("foo", "'x"), "unclosed quote"),
        (AddAgent("foo", " "), "is empty"),
    ],
)
def test_an_agent_that_could_not_be_used_is_refused(agent: AddAgent, why: str) -> None:
    assert why in refused(agent).message


@pytest.mark.parametrize(("name", "text"), [("claude", FILE), ("Codex", FILE), ("mine", OWN), ("cursor", "")])
def test_an_agent_is_not_named_as_a_backend_of_other_models(name: str, text: str) -> None:
    error = refused(AddAgent(name, "mycli --yes"), text=text)

    assert error.message == f"`{name.casefold()}` is the backend of other models"
    assert f"another name, or edit `backends.{name.casefold()}.command` in config.yaml" in str(error.hint)


def test_what_is_there_already_changes_nothing() -> None:
    for edit in (AddModel("Opus"), AddModel("opus", "claude"), SetDefault("OPUS"), AddAlias("quick", "sonnet")):
        assert make(edit) == FILE
    assert said(AddModel("Opus")) == ["Model `opus` is there already."]


def test_another_backend_is_given_to_a_model() -> None:
    assert make(AddModel("gpt-5.2", "claude")) == FILE.replace("backend: codex", "backend: claude")


def test_an_alias_is_added_and_changed() -> None:
    assert make(AddAlias("reviewer", "Opus", "Be strict.")) == FILE + (
        "  reviewer:\n    model: opus\n    prompt: >\n      Be strict.\n"
    )
    assert make(AddAlias("DEEP", "sonnet")) == FILE.replace("    model: opus", "    model: sonnet")
    assert make(AddAlias("deep", "opus", "Go.")) == FILE.replace("Think first.", "Go.")
    assert make(AddAlias("quick", "sonnet", "Go.")) == FILE.replace(
        "{ model: sonnet }", "{ model: sonnet, prompt: Go. }"
    )


def test_the_default_may_be_a_model_an_alias_or_shell() -> None:
    for name in ("sonnet", "deep", "shell"):
        assert make(SetDefault(name)) == FILE.replace("default: opus", f"default: {name}")


def test_edits_are_made_together_and_judged_by_their_outcome() -> None:
    edits: list[Edit] = [RemoveModel("opus"), SetDefault("sonnet"), AddAlias("deep", "sonnet")]

    made = make(*edits)

    assert made.startswith("default: sonnet\n")
    assert "opus" not in made
    refused(*edits[:2])


@pytest.mark.parametrize(
    ("edit", "message", "hint"),
    [
        (RemoveModel("opus"), "`opus` is the default", "dispatch config default sonnet"),
        (
            RemoveModel("sonnet"),
            "`sonnet` is what the alias `quick` stands for",
            "dispatch config alias quick --remove",
        ),
        (RemoveModel("gpt"), "there is no model `gpt`", "did you mean `gpt-5.2`?"),
        (RemoveModel("quick"), "there is no model `quick`", "dispatch config alias quick --remove"),
        (RemoveModel("shell"), "`shell` is built in and cannot be removed", "dispatch config show"),
        (RemoveAlias("quik"), "there is no alias `quik`", "did you mean `quick`?"),
        (RemoveAlias("opus"), "there is no alias `opus`", "dispatch config remove-model opus"),
        (SetDefault("opsu"), "unknown model `opsu`", "did you mean `opus`? If not: dispatch config add-model opsu"),
        (AddAlias("x", "gpt-9"), "unknown model `gpt-9`", "If not: dispatch config add-model gpt-9"),
        (AddAlias("x", "quick"), "`quick` is an alias, not a model", "give its model: `sonnet`"),
        (AddAlias("OPUS", "sonnet"), "`opus` is the name of a model", "give the alias another name"),
        (AddAlias("shell", "opus"), "`shell` is the name of a model", "give the alias another name"),
        (AddAlias("a b", "opus"), "not a name for an alias: `a b`", "use letters"),
        (AddAlias("x", "opus", "a\x1b[31m"), "the prompt has control characters in it", "plain text"),
        (AddModel("a;reboot", "claude"), "not a model id: `a;reboot`", "use letters"),
        (AddModel("$(id)"), "not a model id: `$(id)`", "use letters"),
        (AddModel("--yolo", "claude"), "not a model id: `--yolo`", "use letters"),
        (AddModel("x\ny: z", "claude"), "not a model id: `x\\ny: z`", "use letters"),
        (AddModel("Quick", "claude"), "`quick` is an alias", "dispatch config alias quick --remove"),
        (AddModel("shell"), "`shell` is built in", "dispatch submit -m shell"),
        (AddModel("x", "claud"), "unknown backend `claud`", "did you mean `claude`?"),
        (AddModel("grok-4"), "Model `grok-4` isn't available.", "run `agent models` to see what's available"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(edit: Edit, message: str, hint: str) -> None:
    error = refused(edit)

    assert (error.message, error.exit_status) == (message, Exit.USAGE)
    assert hint in str(error.hint)


@pytest.mark.parametrize(
    ("section", "named"),
    [("fallback: {sonnet: [gpt-5.2]}\n", "fallback"), ("limits: {models: {gpt-5.2: 1}}\n", "limits")],
)
def test_a_model_that_another_section_names_is_not_removed(section: str, named: str) -> None:
    assert refused(RemoveModel("gpt-5.2"), text=FILE + section).message == f"`gpt-5.2` is named under `{named}:`"


def test_an_alias_that_is_the_default_is_not_removed() -> None:
    text = FILE.replace("default: opus", "default: deep")

    assert refused(RemoveAlias("deep"), text=text).message == "`deep` is the default"


@pytest.mark.parametrize(
    "edit", [AddModel("sonnet", "claude"), AddAgent("foo", "foo --yes"), AddAlias("quick", "harvey")]
)
def test_a_file_of_the_old_format_does_not_become_one_of_both(edit: Edit) -> None:
    refusal = refused(edit, text="agents:\n  harvey: {command: claude -p}\n")

    assert "has the old format, `agents:`, which has no place for that" in refusal.message
    assert refusal.hint == "dispatch config migrate"


def test_an_agent_of_the_old_format_is_not_removed() -> None:
    text = "agents:\n  harvey: {command: claude -p}\n"

    assert refused(RemoveModel("harvey"), text=text).hint == "dispatch config migrate"
    assert make(SetDefault("harvey"), text=text) == f"default: harvey\n\n{text}"


@pytest.mark.parametrize(
    "text",
    [
        "models:\n\topus: x\n",
        "models: {}\nmodels: {}\n",
        "a: [",
        "- a\n",
        "models: [opus]\n",
        FILE + "redis: {url: x}\n",
    ],
)
def test_a_file_with_errors_is_not_edited_and_they_are_said_first(text: str) -> None:
    error = refused(AddModel("haiku", "claude"), text=text)

    assert error.exit_status == Exit.CONFIG
    assert error.message.startswith("config.yaml:")
    assert "mend that first, nothing was changed" in str(error.hint)


def test_an_edit_may_mend_an_error_of_the_file() -> None:
    gone = FILE.replace("default: opus", "default: gone")

    assert make(SetDefault("opus"), text=gone) == FILE
    assert said(SetDefault("opus"), text=gone + "redis: {url: x}\n")[-1] == (
        "Left to mend, see dispatch config check: redis.url: not the address of a Redis"
    )
