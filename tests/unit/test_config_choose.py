"""Which model a prompt chooses."""

import pytest

from dispatch_queue.config.choose import (
    Choice,
    Source,
    UnknownModel,
    backend_for,
    best_model,
    choose,
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


def chosen(prompt: str, flag: str | None = None) -> str:
    return choose(CONFIG, prompt, flag).name


def test_nothing_named_takes_the_default() -> None:
    choice = choose(CONFIG, "fix the login", None)

    assert choice == Choice("opus", "claude", "", Source.DEFAULT, "opus")
    assert choice.why == "your default"


def test_a_default_that_is_an_alias_says_what_it_stands_for() -> None:
    choice = choose(Config(default="quick", models=CONFIG.models, aliases=CONFIG.aliases), "fix the login", None)

    assert (choice.model, choice.why) == ("sonnet", "quick → sonnet, your default")


def test_an_alias_brings_its_model_and_its_prompt() -> None:
    choice = choose(CONFIG, "have reviewer look at this", None)

    assert choice == Choice("opus", "claude", "Look for auth flaws.", Source.PROMPT, "reviewer")
    assert choice.why == "reviewer → opus, named in the prompt"


def test_the_last_named_one_wins_and_the_others_are_told() -> None:
    choice = choose(CONFIG, "have opus review, use quick, ask opus again, use quick", None)

    assert choice == Choice("sonnet", "claude", "", Source.PROMPT, "quick", others=("opus",))
    assert choice.why == "quick → sonnet, named in the prompt, the last of opus, quick"


@pytest.mark.parametrize("flag", ["gpt-5.3-codex", "GPT-5.3-Codex"])
def test_the_flag_beats_the_prompt(flag: str) -> None:
    choice = choose(CONFIG, "use opus", flag)

    assert choice == Choice("gpt-5.3-codex", "codex", "", Source.FLAG, "gpt-5.3-codex")
    assert choice.why == "--model"


def test_an_unknown_flag_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownModel, match="model `sonet` isn't available") as caught:
        choose(CONFIG, "", "sonet")

    assert caught.value.exit_status == Exit.USAGE
    assert caught.value.model == "sonet"
    assert "did you mean `sonnet`" in str(caught.value.hint)
    assert "run `agent models` to see what's available" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        ("use gpt-5.9 to refactor this", "gpt-5.9"),
        ("Use GPT-5.9 to refactor this", "gpt-5.9"),
        ("dispatch sonnet-4.7 to review this", "sonnet-4.7"),
        ("refactor this with model kimi-k2", "kimi-k2"),
        ("refactor this with the model `o3`", "o3"),
        ("refactor this using opus-4.5-thinking", "opus-4.5-thinking"),
        ("refactor this with gemini-2.5-pro.", "gemini-2.5-pro"),
        ("have gemini-2.5-pro check it", "gemini-2.5-pro"),
        ("haiku: check it", "haiku"),
        ("check it, haiku in a worktree", "haiku"),
        ("check it. use claude", "claude"),
        ("use sonnet-4.65", "sonnet-4.65"),
        ("use sonnet-4.6-thinking.", "sonnet-4.6-thinking"),
        ("have opus plan it; use gpt-5.9 to do it", "gpt-5.9"),
        ("use gpt 5.9 to fix it", "gpt-5.9"),
        ("Dispatch Sonnet 5 to fix it", "sonnet-5"),
        ("use codex 5.4 to fix it", "gpt-5.4-codex"),
        ("use gpt-5.4 codex to fix it", "gpt-5.4-codex"),
        ("use Sonnet4.7 to fix it", "sonnet-4.7"),
        ("fix it with claude opus 4.7 thinking, please", "claude-opus-4.7-thinking"),
        ("use cursor to fix it", "cursor"),
        ("please ask Cursor to fix it", "cursor"),
        ("dispatch cursor to fix it", "cursor"),
        ("with cursor: fix it", "cursor"),
        ("use the cursor agent to fix it", "cursor"),
        ("fix it, and use the cursor CLI for that", "cursor"),
        ("Fix it. Use cursor.", "cursor"),
    ],
)
def test_a_model_that_is_plainly_asked_for_and_not_configured_is_unknown(prompt: str, model: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        choose(CONFIG, prompt, None)

    assert caught.value.model == model


@pytest.mark.parametrize(
    "prompt",
    [
        "compare the prices of gpt-5.9 and o3",
        "add gpt-4o support",
        "write a haiku",
        "use gpt-4o embeddings in search.py",
        "call gemini-2.5-pro in the summariser",
        "use claude.md for the rules",
        "explain what codex does",
        "update the docs for codex 5.3",
        "use codex 5 times in the text",
    ],
)
def test_a_model_that_is_only_spoken_of_is_not_asked_for(prompt: str) -> None:
    assert chosen(prompt) == "opus"


def test_an_unknown_model_that_is_named_before_a_known_one_gives_way_and_is_told() -> None:
    assert choose(CONFIG, "use gpt-5.9 to review what sonnet wrote", None).others == ("gpt-5.9",)
    assert chosen("use gpt-5.9 to review what sonnet wrote") == "sonnet"


def test_an_id_that_is_spoken_as_words_is_the_id_and_no_other_name_besides() -> None:
    choice = choose(CONFIG, "use sonnet 4.6 to fix it", None)

    assert (choice.model, choice.others, choice.phrase) == ("sonnet-4.6", (), "")


def test_cursor_is_a_word_of_programs_too_so_it_is_said_where_it_was_taken_for_the_cli() -> None:
    config = Config(default="opus", models={**CONFIG.models, "cursor": Model("cursor")})

    choice = choose(config, "use cursor to read the rows", None)

    assert (choice.model, choice.phrase) == ("cursor", "use cursor to read")


def test_a_family_stands_for_its_only_model() -> None:
    choice = choose(CONFIG, "use gpt to refactor it", None)

    assert (choice.model, choice.why) == ("gpt-5.3-codex", "gpt → gpt-5.3-codex, named in the prompt")
    assert choose(CONFIG, "", "gpt").model == "gpt-5.3-codex"


def test_a_family_of_several_models_is_unknown_and_they_are_named() -> None:
    config = Config(models={"gemini-2.5-pro": Model("cursor"), "gemini-3.1-pro": Model("cursor")})

    with pytest.raises(UnknownModel) as caught:
        choose(config, "use gemini to refactor it", None)

    assert caught.value.near == ("gemini-2.5-pro", "gemini-3.1-pro")


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("make a quick fix for the login", "make a quick fix for"),
        ("quick fix", "quick fix"),
        ("be\n quick about it", "be quick about it"),
        ("have opus plan and sonnet write it", "plan and sonnet write it"),
        ("use quick", ""),
        ("have quick look at it", ""),
        ("quick: look at it", ""),
        ("look at it (quick)", ""),
        ("look at it, quick, in a worktree", ""),
        ("use gpt-5.3-codex", ""),
        ("whatever sonnet-4.6 is", ""),
    ],
)
def test_where_a_word_is_perhaps_not_meant_as_a_name_the_phrase_is_told(prompt: str, phrase: str) -> None:
    assert choose(CONFIG, prompt, None).phrase == phrase


def test_shell_is_chosen_by_the_flag_but_not_by_a_word() -> None:
    assert choose(CONFIG, "", "shell") == Choice("shell", "shell", "", Source.FLAG, "shell")
    assert chosen("fix the shell script") == "opus"


def test_with_nothing_configured_the_shell_runs_it() -> None:
    assert choose(Config(), "fix it", None) == Choice("shell", "shell", "", Source.NOTHING, "shell")


def test_without_a_default_the_best_model_runs_it() -> None:
    config = Config(models=CONFIG.models)

    assert choose(config, "fix it", None) == Choice("opus", "claude", "", Source.BEST, "opus")


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
        ("what is sonnet-4.65", "opus"),
        ("what is sonnet-4.6-thinking", "opus"),
        ("what is gpt-5.3-codex-xhigh", "opus"),
        ("use my-sonnet", "opus"),
        ("use sonnets", "opus"),
        ("use sonnet_2", "opus"),
        ("read sonnet.py", "opus"),
        ("read src/sonnet and sonnet/a", "opus"),
        ("read C:\\\\src\\\\sonnet", "opus"),
        ("write to someone@sonnet.example", "opus"),
        ("be quickly done", "opus"),
        ("a quick fix", "quick"),
        ("gpt-5.3-codex!", "gpt-5.3-codex"),
        ("Übung: sonnet—schnell", "sonnet"),
    ],
)
def test_only_whole_words_name_a_model(prompt: str, name: str) -> None:
    assert chosen(prompt) == name


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
