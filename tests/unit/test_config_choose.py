"""Which model a prompt chooses."""

import pytest

from dispatch_queue.config.choose import (
    Choice,
    UnknownModel,
    backend_for,
    best_model,
    choose,
    mentions,
    provider_of,
    wants_worktree,
)
from dispatch_queue.config.schema import Alias, Config, Model
from dispatch_queue.errors import Exit

CONFIG = Config(
    default="opus",
    models={
        "opus": Model("claude"),
        "sonnet": Model("claude"),
        "sonnet-4.6": Model("claude"),
        "gpt-5.3-codex": Model("codex"),
        "composer-1.5": Model("cursor"),
    },
    aliases={"quick": Alias("sonnet"), "reviewer": Alias("opus", "Look for auth flaws.")},
)


def chosen(prompt: str, flag: str | None = None) -> str | None:
    return choose(CONFIG, prompt, flag).matched


def test_nothing_named_takes_the_default() -> None:
    assert choose(CONFIG, "fix the login", None) == Choice("opus", "claude", "", "your default", "opus")


def test_an_alias_brings_its_model_and_its_prompt() -> None:
    assert choose(CONFIG, "have reviewer look at this", None) == Choice(
        "opus", "claude", "Look for auth flaws.", "named in the prompt", "reviewer"
    )


def test_the_last_named_one_wins_and_the_others_are_told() -> None:
    assert choose(CONFIG, "have opus review, quick test, opus again, quick", None) == Choice(
        "sonnet", "claude", "", "named in the prompt, the last of opus, quick", "quick"
    )


@pytest.mark.parametrize("flag", ["gpt-5.3-codex", "GPT-5.3-Codex"])
def test_the_flag_beats_the_prompt(flag: str) -> None:
    assert choose(CONFIG, "use opus", flag) == Choice("gpt-5.3-codex", "codex", "", "--model", "gpt-5.3-codex")


def test_an_unknown_flag_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownModel, match="unknown model `sonet`") as caught:
        choose(CONFIG, "", "sonet")

    assert caught.value.exit_status == Exit.USAGE
    assert caught.value.model == "sonet"
    assert "did you mean `sonnet`?" in str(caught.value.hint)
    assert "add it there" in str(caught.value.hint)


def test_shell_is_chosen_by_the_flag_but_not_by_a_word() -> None:
    assert choose(CONFIG, "", "shell") == Choice("shell", "shell", "", "--model", "shell")
    assert chosen("fix the shell script") == "opus"


def test_with_nothing_configured_the_shell_runs_it() -> None:
    assert choose(Config(), "fix it", None) == Choice("shell", "shell", "", "no agent CLI is configured", None)


def test_without_a_default_the_best_model_runs_it() -> None:
    config = Config(models=CONFIG.models)

    assert choose(config, "fix it", None) == Choice("opus", "claude", "", "no default is configured", None)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("dispatch sonnet to review this", "sonnet"),
        ("Sonnet: review this", "sonnet"),
        ("review this with SONNET.", "sonnet"),
        ("review this (sonnet)", "sonnet"),
        ('review this with "sonnet"', "sonnet"),
        ("review this with `sonnet`, please", "sonnet"),
        ("review this\nsonnet\n", "sonnet"),
        ("use @sonnet", "sonnet"),
        ("sonnet-4.6", "sonnet-4.6"),
        ("use sonnet-4.6.", "sonnet-4.6"),
        ("use sonnet-4.65", "opus"),
        ("use sonnet-4.6-thinking", "opus"),
        ("use my-sonnet", "opus"),
        ("use sonnets", "opus"),
        ("use sonnet_2", "opus"),
        ("read sonnet.py", "opus"),
        ("read src/sonnet and sonnet/a", "opus"),
        ("read C:\\\\src\\\\sonnet", "opus"),
        ("write to someone@sonnet.example", "opus"),
        ("be quickly done", "opus"),
        ("a quick fix", "quick"),
        ("gpt-5.3-codex-xhigh", "opus"),
        ("gpt-5.3-codex!", "gpt-5.3-codex"),
        ("Übung: sonnet—schnell", "sonnet"),
    ],
)
def test_only_whole_words_name_a_model(prompt: str, name: str) -> None:
    assert chosen(prompt) == name


def test_mentions_are_given_in_their_order_and_as_configured() -> None:
    assert mentions("sonnet OPUS sonnet-4.6", ["opus", "Sonnet", "sonnet-4.6"]) == ["Sonnet", "opus", "sonnet-4.6"]
    assert mentions("anything", []) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "fix the login in a worktree",
        "use a worktree and fix the login",
        "Use a separate git worktree to fix the login",
        "fix the login in its own worktree.",
        "work in an isolated worktree: fix the login",
        "fix the login, worktree",
        "fix the login (worktree)",
        "fix the login [worktree]",
        "fix the login. Use worktree.",
        "worktree: fix the login",
        "Worktree - fix the login",
        "have opus fix the login in a worktree please",
        "fix the login --worktree",
        "if that does not help, do it in a worktree",
    ],
)
def test_a_worktree_is_asked_for(prompt: str) -> None:
    assert wants_worktree(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "explain what a worktree is",
        "explain how to use a worktree",
        "fix the worktree command",
        "rename worktree.py",
        "read src/worktree",
        "don't use a worktree",
        "don\u2019t do it in a worktree",
        "do this without using a worktree",
        "fix it, but not in a worktree",
        "no need to use a worktree",
        "in a worktree-based layout, find the config",
        "worktrees are slow; say why",
    ],
)
def test_a_worktree_is_not_asked_for(prompt: str) -> None:
    assert not wants_worktree(prompt)


@pytest.mark.parametrize(
    ("model", "found", "backend"),
    [
        ("opus", {"claude", "codex", "cursor"}, "claude"),
        ("sonnet-4.6", {"claude", "cursor"}, "claude"),
        ("claude-opus-4-6", {"claude"}, "claude"),
        ("opus-4.5-thinking", {"codex", "cursor"}, "cursor"),
        ("opus", {"codex"}, None),
        ("gpt-5.2", {"claude", "codex", "cursor"}, "codex"),
        ("o3", {"codex", "cursor"}, "codex"),
        ("o4-mini-high", {"codex"}, "codex"),
        ("gpt-5.2", {"claude", "cursor"}, "cursor"),
        ("gemini-3.1-pro", {"claude", "codex", "cursor"}, "cursor"),
        ("gemini-3.1-pro", {"claude", "codex"}, None),
        ("foo1", {"codex"}, None),
        ("composer-1.5", set(), None),
    ],
)
def test_a_model_goes_to_its_own_cli_where_that_is_found(model: str, found: set[str], backend: str | None) -> None:
    assert backend_for(model, found) == backend


def test_models_are_grouped_by_whose_they_are() -> None:
    ids = ["opus-4.6", "gpt-5.2", "o3", "gemini-3.1-pro", "grok-4", "composer-1.5", "auto", "kimi-k2"]

    assert [provider_of(model) for model in ids] == [
        "Claude", "OpenAI", "OpenAI", "Gemini", "Grok", "Cursor", "Cursor", "Other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "best"),
    [
        (["sonnet", "gpt-5", "opus"], "opus"),
        (["sonnet", "opus-4.6"], "opus-4.6"),
        (["composer-1", "gpt-5.3-codex", "gpt-5.2"], "gpt-5.3-codex"),
        (["composer-1", "gemini-3"], "composer-1"),
        ([], None),
    ],
)
def test_the_best_model_is_opus_then_openai_then_the_first(models: list[str], best: str | None) -> None:
    assert best_model(models) == best
