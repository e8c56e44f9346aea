"""The plan: which lines are items, what is refused, and that a change touches nothing else."""

import time

import pytest

from dispatch_queue import plan
from dispatch_queue.errors import BadInput, BadPlan, Exit
from dispatch_queue.plan import Change, Item, Mark, Plan


def texts(data: bytes | str) -> list[str]:
    return [item.text for item in plan.parse(data.encode() if isinstance(data, str) else data).items]


def notes(data: str) -> list[str]:
    return [item.note for item in plan.parse(data.encode()).items]


SEED = b"""# Security review

- [x] Scan for secrets
- [?] Review auth logic
  > Which of the two login paths is in use?
- [!] Check dependencies
  pip-audit is not installed
- [ ] Write summary

> **Note from dispatcher:** It is installed via `npx`.
"""


def test_a_plan_has_a_title_items_marks_and_explanations() -> None:
    assert plan.parse(SEED) == Plan(
        "Security review",
        (
            Item(1, 3, Mark.DONE, "Scan for secrets"),
            Item(2, 4, Mark.ASKING, "Review auth logic", "> Which of the two login paths is in use?"),
            Item(3, 6, Mark.FAILED, "Check dependencies", "pip-audit is not installed"),
            Item(4, 8, Mark.OPEN, "Write summary"),
        ),
    )


def test_a_plan_knows_how_far_it_is() -> None:
    seen = plan.parse(SEED)
    assert (seen.done, seen.complete) == (1, False)
    assert seen.first_open == seen.items[1]

    finished = plan.parse(b"- [x] a\n- [X] b\n")
    assert (finished.done, finished.first_open, finished.complete) == (2, None, True)


@pytest.mark.parametrize(
    "line",
    [
        "- [ ] a",
        "* [ ] a",
        "+ [ ] a",
        "1. [ ] a",
        "12) [ ] a",
        "   - [ ] a",
        "-   [ ] a",
        "-\t[ ] a",
        "- [ ]\ta",
        "- [ ] a  \t",
        "- [ ] a\r\n",
        "- [ ]a",
        "\ufeff- [ ] a",
    ],
)
def test_every_kind_of_list_makes_an_item(line: str) -> None:
    assert texts(line) == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        "    - [ ] fake",
        "\t- [ ] fake",
        "> - [ ] fake",
        "-[ ] fake",
        "[ ] fake",
        "1.[ ] fake",
        "1234567890. [ ] fake",
        "-      [ ] fake",
        "`- [ ] fake`",
        "- [x](fake)",
        "- [x]: fake",
        "- [x][fake]",
        "- [^1] fake",
        "- [link](https://example.com) fake",
        "- [ok] fake",
        "- [1] fake",
        "# - [ ] fake",
        "<!-- - [ ] fake -->",
        "```\n- [ ] fake\n```",
        "~~~~ sh\n- [ ] fake\n~~~\n- [ ] fake\n~~~~",
        "````\n```\n- [ ] fake\n````",
        "```\n    ```\n- [ ] fake\n```",
        "<!--\n- [ ] fake\n\n- [ ] fake\n-->",
        "  <!-- begins\n- [ ] fake --> - [ ] fake",
        "text\n    - [ ] fake",
        "- text\n\n  ```\n  - [ ] fake\n  ```",
        "- ```\n  - [ ] fake\n  ```",
        "- <!--\n  - [ ] fake -->",
        "- text\n\n      - [ ] fake\n      - [ ] fake",
        "1. text\n   ~~~\n   - [ ] fake\n\n   - [ ] fake\n   ~~~",
        "> ```\n> - [ ] fake",
    ],
)
def test_what_only_looks_like_an_item_is_none(line: str) -> None:
    assert texts(f"- [ ] first\n\nend of the list\n\n{line}\n\nnext\n\n- [ ] last\n") == ["first", "last"]


@pytest.mark.parametrize("fence", ["```", "~~~", "```python", "`````", "   ```"])
def test_a_fence_under_an_item_hides_its_lines(fence: str) -> None:
    closing = fence.strip().rstrip("python")
    data = f"- [ ] a\n  {fence}\n  - [ ] fake\n\n  - [x] fake\n  {closing}\n- [x] b\n"

    assert texts(data) == ["a", "b"]


def test_a_fence_under_an_item_ends_with_the_item() -> None:
    assert texts("- [ ] a\n  ```\n  - [ ] fake\n- [ ] b\n") == ["a", "b"]


def test_a_fence_and_a_comment_that_begin_within_a_line_hide_nothing() -> None:
    assert texts("```not a fence``` text\n- [ ] a <!-- b\ntext <!-- c\n- [ ] d `<!--`\n") == ["a <!-- b", "d `<!--`"]


def test_a_fence_that_is_not_closed_hides_the_rest() -> None:
    assert texts("- [ ] a\n```\n- [ ] no\n") == ["a"]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("- [ ] a\n  - [ ] b\n    - [ ] c\n- [ ] d\n", "abcd"),
        ("- [ ] a\n    - [ ] b\n        - [ ] c\n", "abc"),
        ("1. [ ] a\n  - [ ] b\n2. [ ] c\n", "abc"),
        ("1. [ ] a\n    1) [ ] b\n", "ab"),
        ("- [ ] a\n\t- [ ] b\n\t\t- [ ] c\n", "abc"),
        ("- [ ] a\n\n  text\n\n    - [ ] b\n", "ab"),
        ("- group\n  - [ ] a\n  - [ ] b\n", "ab"),
        ("- [ ] a\n      - [ ] b\n\n      - [ ] c\n", "abc"),
    ],
)
def test_items_under_items_count(data: str, found: str) -> None:
    assert texts(data) == list(found)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("- [!] a\n  broken\n", "broken"),
        ("- [!] a\nbroken\n", "broken"),
        ("- [!] a\n> broken\n", "> broken"),
        ("- [!] a\n\n  broken\n\n  - twice\n    or more\n", "broken\n\n- twice\n  or more"),
        ("- [!] a\n  ```\n  line\n\n    deeper\n  ```\n", "```\nline\n\n  deeper\n```"),
        ("1. [!] a\n  broken\n", "broken"),
        ("- [!] a\r\n\tbroken\r\n", "broken"),
        ("- [!] a\n  broken <!-- twice -->\n  <!-- not shown -->\n", "broken <!-- twice -->"),
        ("- [!] a\n\nafter the list\n", ""),
        ("- [!] a\n# Heading\ntext\n", ""),
        ("- [!] a\n---\ntext\n", ""),
        ("- [!] a\n- other\n  text\n", ""),
        ("- [!] a\n> **Note from dispatcher:** no\n", ""),
        ("- [!] a\n```\ncode\n```\n", ""),
    ],
)
def test_what_stands_under_an_item_is_its_note(data: str, note: str) -> None:
    assert notes(data) == [note]


def test_a_note_belongs_to_the_item_it_is_indented_under() -> None:
    assert notes("- [ ] a\n  for a\n  - [ ] b\n    for b\n\n  also for a\n") == ["for a\nalso for a", "for b"]


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ("# A b\n- [ ] x", "A b"),
        ("## A\n# B\n- [ ] x", "A"),
        ("- [ ] x\n  # no\n", ""),
        ("```\n# no\n```\n# Yes\n- [ ] x", "Yes"),
        ("#no\n- [ ] x", ""),
        ("#\n# B\n- [ ] x", ""),
    ],
)
def test_the_title_is_the_first_heading(data: str, title: str) -> None:
    assert plan.parse(data.encode()).title == title


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b"", 0, "is empty"),
        (b"\xef\xbb\xbf \r\n\t\n", 0, "is empty"),
        (b"# Title\n\ntext\n", 0, "has no items"),
        (b"- [ ] a\n\n\xff\xfe\n", 3, "is not UTF-8: byte 0xff"),
        (b"- [ ] a\r\nb\0c\n", 2, "is binary"),
        ("- [ ] a".encode("utf-16"), 1, "is binary"),
        (b"- [ ] a\n" * 501, 501, "more than 500 items"),
        (b"x" * (1024 * 1024 + 1), 0, "has 1048577 bytes, the limit is 1048576"),
        (b"- [ ] a\n- [X ] write tests\n", 2, "unknown mark in '- [X ] write tests'"),
        (b"- [ ] a\n<!-- b\n- [ ] c\n", 2, "the comment is never closed"),
        (b"- [-] a\n", 1, "unknown mark in '- [-] a'"),
        (b"- [] a\n", 1, "unknown mark in '- [] a'"),
        (b"- [  ] a\n", 1, "unknown mark"),
        (b"- [v] a\n", 1, "unknown mark"),
        ("- [✓] a\n".encode(), 1, "unknown mark in '- [✓] a'"),
        ("- [ ✔\ufe0f ] a\n".encode(), 1, "unknown mark"),
        ("- [\u00a0] a\n".encode(), 1, "unknown mark"),
        (b"- [x] a\n  - [~] " + b"b" * 300, 2, "…'"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_line(data: bytes, line: int, said: str) -> None:
    with pytest.raises(BadPlan) as caught:
        plan.parse(data, name="steps.md")

    assert said in caught.value.message
    assert caught.value.message.startswith(f"steps.md:{line}: " if line else "steps.md: ")
    assert caught.value.line == line
    assert caught.value.hint
    assert caught.value.exit_status == Exit.USAGE
    assert len(caught.value.message) < 160


def test_the_largest_plans_are_read() -> None:
    assert len(texts(b"- [ ] a\n" * 500)) == 500
    assert texts(b"- [ ] a\n" + b"x" * (1024 * 1024 - 8)) == ["a"]


def test_a_plan_of_twenty_items_is_read_in_less_than_a_millisecond() -> None:
    data = b"# Title\n\n" + b"".join(b"- [x] item %d with `code`\n  a note on it\n" % number for number in range(20))

    def seconds() -> float:
        began = time.perf_counter()
        plan.parse(data)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(50)) < 0.001


SLOW = [
    b"- " * 500_000,
    b"* " * 500_000 + b"x",
    b"-" + b" " * 1_000_000 + b"x",
    b"`" * 1_000_000 + b"x`",
    b"<!--\n-->\n" * 100_000,
    b"<!--\n" * 200_000 + b"-->",
    b"- [" * 300_000,
    b"- [ ] a\n" + b"\t" * 1_000_000 + b"x",
    b"```\n" * 250_000,
    b"\n".join(b" " * depth + b"- x" for depth in range(1_400)),
    b"> **Note from dispatcher:** x\n" * 30_000,
    b"# " * 500_000,
    b"\r" * 1_000_000,
]


@pytest.mark.parametrize("data", SLOW, ids=[repr(data[:12]) for data in SLOW])
def test_no_plan_takes_long(data: bytes) -> None:
    """A quadratic step over a million bytes would take minutes."""
    data = b"- [ ] a\n\nend\n" + data
    began = time.perf_counter()

    plan.parse(data)
    plan.notes_in(data)

    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("before", "number", "mark", "after"),
    [
        (b"- [ ] a\n- [ ] b", 2, Mark.DONE, b"- [ ] a\n- [x] b"),
        (b"\xef\xbb\xbf* [x] a\r\n", 1, Mark.OPEN, b"\xef\xbb\xbf* [ ] a\r\n"),
        (b"- [X] a\n", 1, Mark.DONE, b"- [X] a\n"),
        ("- [ ] ü [ ]\n  1) [?] é\n".encode(), 2, Mark.FAILED, "- [ ] ü [ ]\n  1) [!] é\n".encode()),
        (b"```\n- [ ] no\n```\n- [ ] yes\n", 1, Mark.ASKING, b"```\n- [ ] no\n```\n- [?] yes\n"),
    ],
)
def test_setting_a_mark_changes_that_byte_only(before: bytes, number: int, mark: Mark, after: bytes) -> None:
    assert plan.set_mark(before, number, mark) == after


@pytest.mark.parametrize(
    ("before", "note", "after"),
    [
        (b"- [ ] a\n- [ ] b\n", "why", b"- [!] a\n  why\n- [ ] b\n"),
        (b"- [ ] a", "why", b"- [!] a\n  why"),
        (b"1. [ ] a\r\n\r\nend\r\n", "one\ntwo", b"1. [!] a\r\n   one\r\n   two\r\n\r\nend\r\n"),
        (b"- g\n\t- [ ] a\n\t\told\n", "why\n\n  deeper\n", b"- g\n\t- [!] a\n\t\told\n\t  why\n\t    deeper\n"),
        (b"- [ ] a\n  goes on\n\n  old\n", "why", b"- [!] a\n  goes on\n  why\n\n  old\n"),
        (b"- [ ] a\n  - [ ] b\n", "why", b"- [!] a\n  why\n  - [ ] b\n"),
    ],
)
def test_a_note_is_put_under_its_item(before: bytes, note: str, after: bytes) -> None:
    assert plan.set_mark(before, 1, Mark.FAILED, note) == after


def test_a_note_can_not_make_items_fences_or_headings() -> None:
    note = "- [ ] no\n  * [x] no\n```\n1. [x] no\n# no\n> **Note from dispatcher:** no\n<!-- no\n---"

    changed = plan.set_mark(b"- [ ] a\n- [ ] b\n", 1, Mark.FAILED, note)

    assert texts(changed) == ["a", "b"]
    assert plan.parse(changed).title == ""
    assert plan.notes_in(changed) == []
    assert plan.parse(changed).items[0].note.replace("\\", "") == note


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_mark_of_no_item_is_refused(number: int) -> None:
    with pytest.raises(BadInput, match=rf"no item {number}: the plan has 2"):
        plan.set_mark(b"- [ ] a\n- [ ] b\n", number, Mark.DONE)


def test_a_note_of_the_dispatcher_is_quoted() -> None:
    assert plan.note_block("one") == "> **Note from dispatcher:** one"
    assert plan.note_block("one\r\n\ntwo\n") == "> **Note from dispatcher:** one\n>\n> two"


@pytest.mark.parametrize(
    ("data", "added"),
    [
        (b"- [ ] a\n", b"\n> **Note from dispatcher:** n\n> m\n"),
        (b"- [ ] a", b"\n\n> **Note from dispatcher:** n\n> m\n"),
        (b"- [ ] a\n\n", b"> **Note from dispatcher:** n\n> m\n"),
        (b"- [ ] a\r\n", b"\r\n> **Note from dispatcher:** n\r\n> m\r\n"),
        (b"- [ ] a\n  ", b"\n> **Note from dispatcher:** n\n> m\n"),
        (b"", b"> **Note from dispatcher:** n\n> m\n"),
    ],
)
def test_a_note_is_added_at_the_end_after_a_blank_line(data: bytes, added: bytes) -> None:
    assert plan.add_note(data, "n\nm") == data + added


@pytest.mark.parametrize("text", ["", " \n ", "a\0b", "\udcff", "x" * (plan.NOTE_LIMIT_BYTES + 1)])
def test_a_note_that_would_spoil_the_plan_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        plan.add_note(b"- [ ] a\n", text)


def test_a_note_that_makes_the_plan_too_large_is_refused() -> None:
    with pytest.raises(BadInput, match="the limit is 1048576"):
        plan.add_note(b"- [ ] a\n" + b"x" * (plan.LIMIT_BYTES - 20), "one more")


def test_notes_are_found_wherever_an_agent_moves_them() -> None:
    data = plan.add_note(plan.add_note(SEED, "second\nof two lines"), "third")
    moved = b"  > **Note from dispatcher:**   early\r\n> **Note from dispatcher:** two\n\n" + data

    assert plan.notes_in(moved) == [
        "early",
        "two",
        "It is installed via `npx`.",
        "second\nof two lines",
        "third",
    ]


def test_lost_notes_are_appended_again_and_kept_ones_are_not() -> None:
    given = ["one", "two\nlines", "one", "three"]
    kept = plan.add_note(b"- [x] a\n", "two lines")
    kept = plan.add_note(kept, "one")

    assert plan.note_missing(kept, given) == ["one", "three"]
    merged = plan.merge_notes(kept, given)
    assert merged == plan.add_note(plan.add_note(kept, "one"), "three")
    assert plan.merge_notes(merged, given) == merged


def test_notes_are_merged_into_a_plan_that_is_garbage() -> None:
    assert plan.notes_in(plan.merge_notes(b"\xff\x00```", ["kept"])) == ["kept"]


@pytest.mark.parametrize(
    ("data", "after", "result"),
    [
        ("# t\n\n* [x] a\n* [ ] b\n", 0, "# t\n\n* [ ] N\n* [ ] M\n* [x] a\n* [ ] b\n"),
        ("# t\n\n* [x] a\n* [ ] b\n", 1, "# t\n\n* [x] a\n* [ ] N\n* [ ] M\n* [ ] b\n"),
        ("- [ ] a", 1, "- [ ] a\n- [ ] N\n- [ ] M"),
        ("- [ ] a\r\n  note\r\n\r\nend", 1, "- [ ] a\r\n  note\r\n- [ ] N\r\n- [ ] M\r\n\r\nend"),
        ("1. [ ] a\n2. [ ] b\n", 2, "1. [ ] a\n2. [ ] b\n3. [ ] N\n4. [ ] M\n"),
        ("- [ ] a\n  - [ ] b\n- [ ] c\n", 1, "- [ ] a\n  - [ ] N\n  - [ ] M\n  - [ ] b\n- [ ] c\n"),
        ("- [ ] a\n  - [ ] b\n- [ ] c\n", 2, "- [ ] a\n  - [ ] b\n  - [ ] N\n  - [ ] M\n- [ ] c\n"),
        ("- [ ] a\n  ```\n  x\n  ```\ntext\n", 1, "- [ ] a\n  ```\n  x\n  ```\n- [ ] N\n- [ ] M\n\ntext\n"),
        ("\ufeff- [ ] a\n", 0, "\ufeff- [ ] N\n- [ ] M\n- [ ] a\n"),
    ],
)
def test_new_items_are_written_as_their_neighbour_is(data: str, after: int, result: str) -> None:
    assert plan.insert_items(data.encode(), after, ["N", "M"]).decode() == result


def test_inserting_nothing_changes_nothing() -> None:
    assert plan.insert_items(SEED, 2, []) == SEED


@pytest.mark.parametrize(
    ("after", "items"), [(-1, ["x"]), (5, ["x"]), (1, [""]), (1, ["a\nb"]), (1, ["a\0"]), (1, ["x"] * 497)]
)
def test_items_that_can_not_be_inserted_are_refused(after: int, items: list[str]) -> None:
    with pytest.raises(BadInput):
        plan.insert_items(SEED, after, items)


def test_a_new_plan_is_written_as_a_person_would() -> None:
    assert (
        plan.render("Fix  the\nbug", [" find it ", "fix `it`"]) == b"# Fix the bug\n\n- [ ] find it\n- [ ] fix `it`\n"
    )


@pytest.mark.parametrize(
    ("title", "items"),
    [
        ("", ["a"]),
        ("t", []),
        ("t", [" "]),
        ("t", ["a\nb"]),
        ("t", ["a\rb"]),
        ("t", ["a\0b"]),
        ("\udcff", ["a"]),
        ("t", ["a"] * 501),
        ("t", ["x" * 60_000] * 20),
    ],
)
def test_a_plan_that_could_not_be_read_is_not_written(title: str, items: list[str]) -> None:
    with pytest.raises(BadInput):
        plan.render(title, items)


def changed(before: str, after: str) -> list[tuple[int, str, Mark | None, Mark]]:
    return [
        (change.number, change.text, change.mark_before, change.mark_after)
        for change in plan.changes(plan.parse(before.encode()), plan.parse(after.encode()))
    ]


O, X, Q, F = Mark.OPEN, Mark.DONE, Mark.ASKING, Mark.FAILED  # noqa: E741 - the letters stand for themselves


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("- [ ] a\n- [ ] b", "- [ ] a\n- [ ] b", []),
        ("- [ ] a\n- [ ] b", "- [x] a\n- [?] b", [(1, "a", O, X), (2, "b", O, Q)]),
        ("- [?] a", "- [ ] a", [(1, "a", Q, O)]),
        # inserted, removed, moved
        ("- [x] a\n- [ ] b", "- [ ] new\n- [x] a\n- [ ] b", []),
        ("- [x] a\n- [ ] b", "- [x] new\n- [x] a\n- [ ] b", [(1, "new", None, X)]),
        ("- [x] a\n- [ ] b\n- [ ] c", "- [x] a\n- [x] c", [(2, "c", O, X)]),
        ("- [x] a\n- [ ] b", "- [ ] b\n- [x] a", []),
        # the same text twice
        ("- [x] a\n- [ ] a", "- [x] a\n- [x] a", [(2, "a", O, X)]),
        # reworded
        ("- [x] a\n- [ ] b", "- [x] alpha\n- [ ] b", []),
        ("- [ ] a\n- [ ] b", "- [x] alpha\n- [ ] b", [(1, "alpha", O, X)]),
        ("- [x] a\n- [ ] b", "- [ ] new\n- [x] alpha\n- [ ] b", []),
        ("- [ ] scan", "- [ ] new\n- [x] scan - found 2", [(2, "scan - found 2", O, X)]),
        ("- [ ] scan  it", "- [x] ~~scan it~~", [(1, "~~scan it~~", O, X)]),
        # a plan of one item replaced by many
        ("- [ ] do it all", "- [ ] a\n- [ ] b\n- [ ] c", []),
        ("- [ ] do it all", "- [x] a\n- [x] b\n- [ ] c", [(1, "a", O, X), (2, "b", None, X)]),
    ],
)
def test_changes_are_told_without_false_ticks(
    before: str, after: str, expected: list[tuple[int, str, Mark | None, Mark]]
) -> None:
    assert changed(before, after) == expected


def test_a_change_carries_its_explanation() -> None:
    before, after = plan.parse(b"- [ ] a\n"), plan.parse(b"- [!] a\n  no network\n")

    assert plan.changes(before, after) == [Change(1, "a", O, F, "no network")]


def test_a_note_that_would_make_the_plan_too_large_to_be_read_is_not_put_back() -> None:
    data = b"- [ ] one\n" + b"x" * (plan.LIMIT_BYTES - 200) + b"\n"

    merged = plan.merge_notes(data, ["short", "y" * 500, "short too"])

    assert plan.notes_in(merged) == ["short", "short too"]
    assert plan.parse(merged).items
