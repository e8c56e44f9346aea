"""Which notes under an item are ours, and how they are taken away."""

import pytest

from dispatch_queue import again, plan
from dispatch_queue.errors import BadInput
from dispatch_queue.ownnotes import cleared, of_a_retry, of_the_shell

OURS = [
    "exit status 1",
    "exit status 127: sh: 1: nope: not found",
    "ended by signal 9: killed",
    "`dispatch-ask` ended with exit status 2",
    "answer: the second one",
    "no `command` in this item; the shell backend runs only commands",
    "there is no question after `ask:`",
    "skipped",
    "which one?",
    "1\\. the first",
]
OTHERS = ["exit status unknown", "it ended with exit status 1", "the answer: 2", "skipped it", "which?", "Answer: x"]
SHELL = of_the_shell(["which one?\n1. the first"])


@pytest.mark.parametrize("line", OURS)
def test_what_the_shell_writes_is_ours(line: str) -> None:
    assert SHELL(line)


@pytest.mark.parametrize("line", OTHERS)
def test_what_only_looks_alike_is_not(line: str) -> None:
    assert not SHELL(line)


def test_of_another_agent_only_what_a_retry_wrote_is_ours() -> None:
    assert [line for line in [*OURS, *OTHERS] if of_a_retry(line)] == ["skipped"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_our_lines_go_and_every_other_byte_stays(newline: str) -> None:
    before = [
        "# P",
        "- [x] one",
        "  skipped",
        "- [!] two",
        "  by hand",
        "  exit status 1",
        "  exit status 1: x",
        "",
        "  y",
    ]
    after = ["# P", "- [x] one", "  skipped", "- [!] two", "  by hand", "", "  y"]

    assert cleared(newline.join(before).encode(), 2, SHELL) == newline.join(after).encode()


@pytest.mark.parametrize("number", [0, 2])
def test_an_item_that_is_not_there_is_refused(number: int) -> None:
    with pytest.raises(BadInput, match=f"no item {number}: the plan has 1"):
        cleared(b"- [ ] a\n", number, SHELL)


def test_a_round_from_the_start_begins_without_our_notes_of_the_one_before() -> None:
    before = b"- [x] ask: which?\n  answer: this\n  (by hand)\n- [!] two\n  exit status 1\n- [x] three\n  skipped\n"

    after = again.reopened(before, from_start=True, is_ours=of_the_shell())

    assert after == b"- [ ] ask: which?\n  (by hand)\n- [ ] two\n- [ ] three\n"


def test_an_item_that_is_skipped_twice_says_so_once() -> None:
    once = again.reopened(b"- [!] a\n", skip=[1])

    twice = again.reopened(plan.set_mark(once, 1, plan.Mark.FAILED), skip=[1])

    assert (once, twice) == (b"- [x] a\n  skipped\n", b"- [x] a\n  skipped\n")
