"""The plan over documents nobody would think of: nothing but BadPlan is raised, and what is not touched stays."""

from collections import Counter

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dispatch_queue import plan
from dispatch_queue.errors import BadPlan
from dispatch_queue.plan import Item, Mark, Plan

INDENTS = st.sampled_from(["", "", "", " ", "  ", "   ", "    ", "      ", "\t", "  \t", "         "])
ITEMS = ["- [ ] a", "- [x] b", "* [?] a", "+ [!] c", "1. [ ] d", "9) [X] e", "-   [ ] f", "-\t[ ] g", "- [ ]", "- [ ]h"]
LISTS = ["- bullet", "3. bullet", "-", "- ```", "- <!--", "- - [ ] no", "- [a](b)", "- [link]: x"]
BLOCKS = ["```", "~~~", "````", "```py", "``` `", "<!--", "-->", "<!-- x -->", "# heading", "#", "---", "***"]
OTHERS = [
    "",
    "",
    " ",
    "text",
    "text",
    "> quote",
    "> - [ ] no",
    "> **Note from dispatcher:** n",
    ">",
    "\x0c",
    "é\u2028 x",
]
BODIES = st.sampled_from([*ITEMS, *LISTS, *BLOCKS, *OTHERS])
LINES = st.tuples(INDENTS, BODIES).map("".join)
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Markdown, or nearly: lines that mean something, at depths that mean something."""
    end = draw(ENDS)
    mixed = st.just(end) if draw(st.integers(0, 4)) else ENDS
    text = "".join(line + draw(mixed) for line in draw(st.lists(LINES, min_size=1, max_size=14)))[: -len(end)]
    bom = draw(st.sampled_from(["", "", "\ufeff"]))
    return (bom + text + draw(st.sampled_from(["", end]))).encode()


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NOTES = st.one_of(
    TEXTS,
    st.lists(LINES, min_size=1, max_size=5).map("\n".join),
    st.sampled_from(["again", "again", "> **Note from dispatcher:** x", "**Note from dispatcher:** y\nz"]),
).filter(str.strip)
ITEM_TEXTS = st.one_of(TEXTS, BODIES).filter(lambda text: text.strip() and not {"\n", "\r"} & set(text.strip()))


def read(data: bytes) -> Plan:
    """The plan in `data`; documents that are none are not what a test is about."""
    try:
        return plan.parse(data)
    except BadPlan:
        assume(False)
        raise


def is_inserted(before: bytes, after: bytes) -> bool:
    """Whether `after` is `before` with one run of bytes put in."""
    head = 0
    while head < len(before) and before[head] == after[head]:
        head += 1
    return any(after.endswith(before[at:]) and len(after) - len(before) >= 0 for at in range(head, -1, -1))


def outline(items: tuple[Item, ...] | list[Item]) -> list[tuple[Mark, str, str]]:
    return [(item.mark, item.text, item.note) for item in items]


@given(st.one_of(st.binary(max_size=300), documents()))
@settings(max_examples=120)
def test_any_bytes_are_a_plan_or_a_bad_plan(data: bytes) -> None:
    lines = data.splitlines()
    refused: BadPlan | None = None
    items: tuple[Item, ...] = ()

    try:
        items = plan.parse(data).items
    except BadPlan as error:
        refused = error

    assert items or (refused is not None and 0 <= refused.line <= len(lines))
    assert [item.number for item in items] == list(range(1, len(items) + 1))
    for item in items:
        assert f"[{item.mark.value}]".encode() in lines[item.line - 1].lower()
    plan.notes_in(data)


@given(documents(), st.data(), st.sampled_from(Mark))
@settings(max_examples=120)
def test_setting_a_mark_touches_one_byte(data: bytes, draw: st.DataObject, mark: Mark) -> None:
    before = read(data)
    number = draw.draw(st.integers(1, len(before.items)))

    after = plan.set_mark(data, number, mark)

    assert len(after) == len(data)
    differing = [at for at in range(len(data)) if data[at] != after[at]]
    assert len(differing) == (before.items[number - 1].mark is not mark)
    expected = outline(before.items)
    expected[number - 1] = (mark, *expected[number - 1][1:])
    assert outline(plan.parse(after).items) == expected


@given(documents(), st.data(), NOTES)
@settings(max_examples=150)
def test_a_note_under_an_item_touches_no_other(data: bytes, draw: st.DataObject, note: str) -> None:
    before = read(data)
    number = draw.draw(st.integers(1, len(before.items)))
    mark = before.items[number - 1].mark

    after = plan.set_mark(data, number, mark, note)

    assert is_inserted(data, after)
    seen = plan.parse(after)
    others = [position for position in range(len(before.items)) if position != number - 1]
    assert len(seen.items) == len(before.items)
    assert [outline(seen.items)[at] for at in others] == [outline(before.items)[at] for at in others]
    assert (seen.title, seen.items[number - 1].text) == (before.title, before.items[number - 1].text)
    shown = "".join(seen.items[number - 1].note.replace("\\", "").split())
    assert "".join(note.encode().decode().replace("\\", "").split()) in shown
    assert plan.notes_in(after) == plan.notes_in(data)


@given(st.one_of(st.binary(max_size=100), documents()), NOTES)
@example(b"- [ ] a\n  ", "x")
@example(b"\xef\xbb\xbf", "x")
@settings(max_examples=120)
def test_an_added_note_is_appended_and_found(data: bytes, note: str) -> None:
    after = plan.add_note(data, note)

    assert after.startswith(data)
    assert plan.note_missing(after, [note]) == []
    assert plan.notes_in(after)[: len(plan.notes_in(data))] == plan.notes_in(data)
    try:
        before = plan.parse(data)
    except BadPlan:
        return
    assert [item[:2] for item in outline(plan.parse(after).items)] == [item[:2] for item in outline(before.items)]


@given(st.one_of(st.binary(max_size=100), documents()), st.lists(NOTES, max_size=5), st.lists(NOTES, max_size=3))
@settings(max_examples=120)
def test_merging_notes_adds_each_lost_one_once(data: bytes, given_notes: list[str], kept: list[str]) -> None:
    seen = plan.merge_notes(data, kept)

    merged = plan.merge_notes(seen, given_notes)

    assert merged.startswith(seen)
    assert plan.note_missing(merged, given_notes) == []
    assert plan.merge_notes(merged, given_notes) == merged
    assert plan.note_missing(merged, kept) == []


@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=8), st.data())
def test_a_note_given_twice_is_there_twice(given_notes: list[str], draw: st.DataObject) -> None:
    kept = draw.draw(st.lists(st.sampled_from(given_notes), max_size=8) if given_notes else st.just([]))
    data = plan.merge_notes(b"- [ ] a\n", kept)

    there = Counter(plan.notes_in(plan.merge_notes(data, given_notes)))

    assert there == Counter(kept) | Counter(given_notes)


@given(documents(), st.data(), st.lists(ITEM_TEXTS, min_size=1, max_size=4))
@settings(max_examples=150)
def test_new_items_touch_no_other(data: bytes, draw: st.DataObject, texts: list[str]) -> None:
    before = read(data)
    after_number = draw.draw(st.integers(0, len(before.items)))

    after = plan.insert_items(data, after_number, texts)

    assert is_inserted(data, after)
    seen = plan.parse(after)
    new = [(Mark.OPEN, text.strip(), "") for text in texts]
    old = outline(before.items)
    assert outline(seen.items) == [*old[:after_number], *new, *old[after_number:]]
    assert seen.title == before.title


@given(TEXTS.filter(str.strip), st.lists(ITEM_TEXTS, min_size=1, max_size=8))
@settings(max_examples=120)
def test_what_is_rendered_is_read_back(title: str, items: list[str]) -> None:
    seen = plan.parse(plan.render(title, items))

    assert seen.title == " ".join(title.split())
    assert outline(seen.items) == [(Mark.OPEN, text.strip(), "") for text in items]


MARKS = st.sampled_from(Mark)
ROWS = st.lists(st.tuples(MARKS, st.sampled_from("abcdef")), min_size=1, max_size=8)


def made(rows: list[tuple[Mark, str]]) -> Plan:
    return Plan("t", tuple(Item(number, number, mark, text) for number, (mark, text) in enumerate(rows, 1)))


@given(ROWS)
def test_nothing_changed_is_no_change(rows: list[tuple[Mark, str]]) -> None:
    assert plan.changes(made(rows), made(rows)) == []


@given(ROWS, ROWS)
def test_a_change_is_of_an_item_that_is_there(before: list[tuple[Mark, str]], after: list[tuple[Mark, str]]) -> None:
    for change in plan.changes(made(before), made(after)):
        assert (change.mark_after, change.text) == after[change.number - 1]
        assert change.mark_after is not change.mark_before


@given(ROWS.filter(lambda rows: len({text for _, text in rows}) == len(rows)), st.data())
def test_inserting_and_moving_items_ticks_nothing(rows: list[tuple[Mark, str]], draw: st.DataObject) -> None:
    mixed = draw.draw(st.permutations([*rows, (Mark.OPEN, "new one"), (Mark.OPEN, "new two")]))

    assert plan.changes(made(rows), made(mixed)) == []
