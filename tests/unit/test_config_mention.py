"""Names of models in a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue.config.mention import Mention, around, asked_for, is_meant, is_model_id, mentions


def test_mentions_are_given_in_their_order_and_as_configured() -> None:
    assert mentions("sonnet OPUS sonnet-4.6", ["opus", "Sonnet", "sonnet-4.6"]) == [
        Mention("Sonnet", 0, 6),
        Mention("opus", 7, 11),
        Mention("sonnet-4.6", 12, 22),
    ]
    assert mentions("anything", []) == []


def test_letters_that_only_look_the_same_when_case_is_ignored_are_no_mention() -> None:
    assert mentions("ha\u0131ku", ["haiku"]) == []


@pytest.mark.parametrize(
    "name",
    [
        "opus", "Sonnet", "sonnet-4.6", "opus-4.5-thinking", "claude-opus-4-6", "claude-sonnet-4-20250514", "gpt-5.3",
        "gpt-5.3-codex-spark", "gpt-4o", "codex-mini", "codex-5.3", "sonnet4.5", "o3", "o4-mini", "o4-mini-high",
        "gemini-2.5-pro", "composer-1.5", "kimi-k2", "grok-4",
    ],
)  # fmt: skip
def test_ids_of_the_known_providers_are_told_by_their_form(name: str) -> None:
    assert is_model_id(name)


@pytest.mark.parametrize(
    "name", ["", "claude", "gpt", "o", "oss", "magnum-opus", "sonnet-based", "codex", "composer", "a1"]
)
def test_other_words_are_no_ids(name: str) -> None:
    assert not is_model_id(name)


@given(st.text())
def test_any_prompt_is_looked_through(prompt: str) -> None:
    for mention in [*mentions(prompt, ["o", "i", "a-b"]), *([found] if (found := asked_for(prompt)) else [])]:
        assert prompt[mention.start : mention.end].casefold() == mention.name
        assert is_meant(prompt, mention) in (True, False)
        assert mention.name in around(prompt, mention).casefold()
