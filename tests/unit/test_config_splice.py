"""Changes of YAML text at one place: the rest stays, byte for byte, in whatever style the file is written."""

import pytest
import yaml

from dispatch_queue.config import marks, splice
from dispatch_queue.config.splice import Unchangeable

FILE = """\
# head
default: opus  # mine

backends:
  claude:
    command: >
      claude -p

models:
  # Claude
  opus:    { backend: claude }
  sonnet:  { backend: claude }  # quick

  # OpenAI
  gpt-5.2: { backend: codex }

# aliases:
#   quick: { model: sonnet }
"""


def test_a_scalar_is_replaced_and_its_comment_stays() -> None:
    assert splice.put(FILE, ("default",), "sonnet") == FILE.replace("opus  # mine", "sonnet  # mine")


def test_a_new_entry_is_written_as_the_one_before_it() -> None:
    assert splice.put(FILE, ("models", "auto"), {"backend": "cursor"}) == FILE.replace(
        "gpt-5.2: { backend: codex }\n", "gpt-5.2: { backend: codex }\n  auto:    { backend: cursor }\n"
    )


def test_a_new_entry_goes_below_the_one_that_is_named() -> None:
    assert splice.put(FILE, ("models", "haiku"), {"backend": "claude"}, after="sonnet") == FILE.replace(
        "# quick\n", "# quick\n  haiku:   { backend: claude }\n"
    )


def test_a_new_section_goes_where_a_new_file_has_it() -> None:
    without = FILE.replace(FILE[FILE.index("backends:") : FILE.index("models:")], "")

    assert splice.put(without, ("backends", "claude", "command"), "claude -p") == FILE


def test_a_new_section_at_the_end_leaves_a_comment_one() -> None:
    assert splice.put(FILE, ("aliases", "deep"), {"model": "opus", "prompt": "Think first."}) == (
        FILE + "\naliases:\n  deep:\n    model: opus\n    prompt: >\n      Think first.\n"
    )


def test_an_entry_goes_with_its_lines_and_nothing_else() -> None:
    assert splice.drop(FILE, ("models", "sonnet")) == FILE.replace("  sonnet:  { backend: claude }  # quick\n", "")
    assert splice.drop(FILE, ("backends", "claude")) == FILE.replace("  claude:\n    command: >\n      claude -p\n", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "models:\n  x: { backend: b }\n"),
        ("# only this", "# only this\nmodels:\n  x: { backend: b }\n"),
        ("models:\n", "models:\n  x: { backend: b }\n"),
        ("models: {}\n", "models:\n  x: { backend: b }\n"),
        ("models: ~  # none\ndefault: a\n", "models:   # none\n  x: { backend: b }\ndefault: a\n"),
        ("models:\n  # a: b\n\nredis: {}\n", "models:\n  x: { backend: b }\n  # a: b\n\nredis: {}\n"),
        ("{}", "{models: {x: {backend: b}}}"),
        ("{models: , redis: }", "{models: {x: {backend: b}} , redis: }"),
        ("models: {a: {backend: b}}", "models: {a: {backend: b}, x: {backend: b}}"),
        ("models: {\n  a: {backend: b}, # c\n}\n", "models: {\n  a: {backend: b}, x: {backend: b}, # c\n}\n"),
        ("models:\n  a:\n    backend: b", "models:\n  a:\n    backend: b\n  x:\n    backend: b"),
        ("models:\n    a:\n        backend: b\n", "models:\n    a:\n        backend: b\n    x:\n        backend: b\n"),
        ("models:\n  a: {backend: b}\n", "models:\n  a: {backend: b}\n  x: {backend: b}\n"),
        ("models:\r\n  a: { backend: b }\r\n", "models:\r\n  a: { backend: b }\r\n  x: { backend: b }\r\n"),
        ("models:\n  a: &a {backend: b}\n  c: *a\n", "models:\n  a: &a {backend: b}\n  c: *a\n  x: { backend: b }\n"),
        ("--- # one\nmodels:\n  'a': {backend: b}\n", "--- # one\nmodels:\n  'a': {backend: b}\n  x: {backend: b}\n"),
    ],
)
def test_an_entry_is_added_in_every_style(before: str, after: str) -> None:
    assert splice.put(before, ("models", "x"), {"backend": "b"}) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("models: {a: {backend: b}, c: {backend: d}}", "models: {c: {backend: d}}"),
        ("models: {c: {backend: d}, a: {backend: b}, }", "models: {c: {backend: d}, }"),
        ("models: {a: {backend: b}, }", "models: { }"),
        ("models:\n  a:\n    backend: b\n", "models:\n"),
        ("models:\n  a: {backend: b}", "models:\n"),
        ("models:\r\n  a: {backend: b}\r\n  c: {}\r\n", "models:\r\n  c: {}\r\n"),
        ("models:\n  a:\n    backend: |+\n      b\n\n  c: {}\n", "models:\n\n  c: {}\n"),
        ("models:\n  a: # it\n    # really\n    backend: b\n  # c\n", "models:\n  # c\n"),
        ('models: {"a" : {backend: b}}', "models: {}"),
    ],
)
def test_an_entry_is_removed_in_every_style(before: str, after: str) -> None:
    assert splice.drop(before, ("models", "a")) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("default: 'opus'", "default: x"),
        ("default:\n  opus\n", "default:\n  x\n"),
        ("default:\n", "default: x\n"),
        ("default: # which?\n", "default: x # which?\n"),
        ("default: >-\n  opus\n\nredis: {}\n", "default: x\n\nredis: {}\n"),
        ("a: &d opus\ndefault: *d\n", "a: &d opus\ndefault: x\n"),
        ("{default: opus, redis: {}}", "{default: x, redis: {}}"),
        ("redis: {}\n", "default: x\n\nredis: {}\n"),
        ("# head\n\n# of redis\nredis: {}\n", "# head\n\ndefault: x\n\n# of redis\nredis: {}\n"),
        ("# head\nredis: {}\n", "# head\ndefault: x\n\nredis: {}\n"),
    ],
)
def test_a_scalar_is_put_in_every_style(before: str, after: str) -> None:
    assert splice.put(before, ("default",), "x") == after


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("default: &d opus\nother: *d\n", ("default",)),
        ("a: &m\n  x: {backend: b}\nmodels: *m\n", ("models", "y", "backend")),
        ("models: opus\n", ("models", "y", "backend")),
        ("opus\n", ("default",)),
        ("models: [a]\n", ("models", "y", "backend")),
        ("default: {a: b}\n", ("default",)),
    ],
)
def test_what_would_change_something_else_is_refused(text: str, place: tuple[str, ...]) -> None:
    with pytest.raises(Unchangeable):
        splice.put(text, place, "x")


def test_an_anchor_that_is_needed_is_not_removed() -> None:
    with pytest.raises(Unchangeable, match=r"`models\.a` cannot be changed"):
        splice.drop("models:\n  a: &a {backend: b}\n  c: *a\n", ("models", "a"))


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "null",
        "~",
        "5.10",
        "1e3",
        "a:",
        "a#b",
        "#x",
        "x: y",
        "- a",
        "'q'",
        '"',
        "[",
        "é",
        "a\\b",
        "*x",
        "&x",
        "🙂",
    ],
)
def test_text_is_read_back_as_it_is_by_any_reader(text: str) -> None:
    for begun in ("", "models:\n  a: {}\n", "{models: {a: {}}}"):
        made = splice.put(begun, ("models", text), {"backend": text, "more": text})
        entry = yaml.safe_load(made)["models"][text]
        assert {key: value.rstrip("\n") for key, value in entry.items()} == {"backend": text, "more": text}


@pytest.mark.parametrize(
    "prompt", ["Be quick: now.", "One\n\n  two\nthree", "a #b", "tab\there", "x" * 500 + " y", "> no", "a\u2028b c"]
)
def test_a_prompt_is_read_back_as_it_is(prompt: str) -> None:
    for begun in ("", "aliases:\n  a:\n    model: m\n    prompt: old  # c\n", "{aliases: {a: {prompt: old}}}"):
        made = splice.put(begun, ("aliases", "a", "prompt"), prompt)
        assert yaml.safe_load(made)["aliases"]["a"]["prompt"].strip() == prompt
        assert ("# c" in made) == ("# c" in begun)


def test_the_comments_of_an_entry_are_found() -> None:
    text = (
        "agents: # all\n"
        "  # first\n  a:  # x\n    # inside\n    command: >\n      # not\n      one\n"
        "  # second\n  b: {}\n"
    )

    assert marks.comments_of(text, ("agents", "a")) == ["# all", "# first", "# x", "# inside"]
    assert marks.comments_of(text, ("agents", "b")) == ["# second"]
