"""What the end of an agent means: every branch of the decision, and what a reason says."""

from typing import Any

import pytest

from dispatch_queue import plan
from dispatch_queue.ipc import Ipc
from dispatch_queue.plan import Plan
from dispatch_queue.record import Entry
from dispatch_queue.states import HELD, Event, after
from worker.livecopy import View
from worker.process import ProcessExit
from worker.supervisor import Stop
from worker.verdict import End, Verdict, conclude, how, items_agreed, judge, not_begun, unchecked

DONE = b"- [x] one\n- [x] two\n"
HALF = b"- [x] one\n- [ ] two\n"
WRONG = b"- [x] one\n- [!] two\n  no such table\n"
WRONG_WITHOUT_NOTE = b"- [!] one\n- [ ] two\n"
BLOCKED = b"- [x] one\n- [?] two\n  which table?\n"
ENDED = ProcessExit(code=0)
FAILED = ProcessExit(code=2)
TERMINATED = ProcessExit(signal=15)


def seen(data: bytes, *, done: bool = False, asks: tuple[int, ...] = (), broken: str = "", hostile: str = "") -> View:
    asked = Ipc(questions=dict.fromkeys(asks, "which?"), answers={}, acknowledged=frozenset(), done=done, foreign=())
    return View(plan=plan.parse(data), plan_bytes=data, ipc=asked, broken=broken, hostile=hostile)


def end(view: View, exit: ProcessExit = ENDED, **more: Any) -> End:
    return End(view=view, exit=exit, **{"stop": None, "progressed": True, "last_line": "", **more})


CASES: list[tuple[str, End, Verdict | None]] = [
    ("all done", end(seen(DONE, done=True)), Verdict(Event.FINISH)),
    ("all done by an agent with a bad exit", end(seen(DONE, done=True), FAILED), Verdict(Event.FINISH)),
    ("all done when its time was up", end(seen(DONE, done=True), TERMINATED, stop=Stop.TIMEOUT), Verdict(Event.FINISH)),
    (
        "all done when its worker stopped",
        end(seen(DONE, done=True), TERMINATED, stop=Stop.DRAIN),
        Verdict(Event.FINISH),
    ),
    ("not ours any more", end(seen(DONE, done=True), stop=Stop.LOST), None),
    ("not ours, and hostile", end(seen(HALF, hostile="plan.md: is a link"), stop=Stop.LOST), None),
    (
        "hostile",
        end(seen(DONE, done=True, hostile="plan.md: is a link, not a file"), stop=Stop.BROKEN),
        Verdict(Event.FAIL, "agent: the agent broke the task's record: plan.md: is a link, not a file"),
    ),
    (
        "wrote beside its record",
        end(seen(DONE, done=True), strangers=("a", "b", "c", "d")),
        Verdict(Event.FAIL, "agent: the agent wrote outside its task's record: a, b, c"),
    ),
    (
        "left garbage for a plan",
        end(seen(DONE, done=True, broken="plan.md: is not text")),
        Verdict(Event.FAIL, "agent: the agent left no readable plan: plan.md: is not text"),
    ),
    (
        "its worker stopped",
        end(seen(HALF), TERMINATED, stop=Stop.DRAIN),
        Verdict(Event.GIVE_BACK, "its worker stopped"),
    ),
    (
        "its worker stopped while it asked",
        end(seen(HALF, asks=(1,)), TERMINATED, stop=Stop.DRAIN),
        Verdict(Event.GIVE_BACK, "its worker stopped"),
    ),
    (
        "its time was up",
        end(seen(HALF), TERMINATED, stop=Stop.TIMEOUT),
        Verdict(Event.FAIL, "timeout: the attempt's time is up; unchecked: 2 'two'"),
    ),
    (
        "its time was up before it marked the end",
        end(seen(DONE), TERMINATED, stop=Stop.TIMEOUT),
        Verdict(Event.FAIL, "timeout: the attempt's time is up; every item is checked but ipc/.done is missing"),
    ),
    ("an item failed", end(seen(WRONG)), Verdict(Event.FAIL, "item: 2 'two': no such table")),
    (
        "an item failed, without a word",
        end(seen(WRONG_WITHOUT_NOTE), FAILED, progressed=False),
        Verdict(Event.FAIL, "item: 1 'one': no reason was given"),
    ),
    ("an item failed while it asked", end(seen(WRONG, asks=(1,))), Verdict(Event.FAIL, "item: 2 'two': no such table")),
    ("ended with a question", end(seen(BLOCKED, asks=(2, 3))), Verdict(Event.PARK, "question 2")),
    (
        "stopped with a question",
        end(seen(HALF, asks=(1,)), TERMINATED, stop=Stop.PARK),
        Verdict(Event.PARK, "question 1"),
    ),
    (
        "all done, but a question is open and the end is not marked",
        end(seen(DONE, asks=(1,))),
        Verdict(Event.PARK, "question 1"),
    ),
    ("all done with a question that nobody waits for", end(seen(DONE, done=True, asks=(1,))), Verdict(Event.FINISH)),
    ("blocked without a question", end(seen(BLOCKED), newly_blocked=(2,)), Verdict(Event.PARK, "item 2 is blocked")),
    (
        "failed at once",
        end(seen(HALF), FAILED, progressed=False, last_line="no such option"),
        Verdict(Event.FAIL, "agent: the agent ended with exit status 2; its last line: no such option"),
    ),
    (
        "failed after some work",
        end(seen(HALF), FAILED),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True),
    ),
    (
        "killed before any work",
        end(seen(HALF), TERMINATED, progressed=False),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True),
    ),
    (
        "its warden was killed",
        end(seen(HALF), ProcessExit(error="its warden died (signal 9)"), progressed=False),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked; its warden died (signal 9)", counts=True),
    ),
    (
        "ended early",
        end(seen(HALF), progressed=False),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True, idle=True),
    ),
    (
        "idle for the second time",
        end(seen(HALF), progressed=False, idle_before=True),
        Verdict(
            Event.FAIL,
            "agent: two attempts in a row checked nothing; the agent ended with exit status 0; unchecked: 2 'two'",
        ),
    ),
    (
        "idle before, but not now",
        end(seen(HALF), idle_before=True),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True),
    ),
    (
        "no tries are left",
        end(seen(HALF), tries=2, limit=3),
        Verdict(Event.FAIL, "agent: 3 attempts ended unfinished; unchecked: 2 'two'"),
    ),
    (
        "one try is left",
        end(seen(HALF), tries=1, limit=3),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True),
    ),
    (
        "a single try",
        end(seen(HALF), limit=1),
        Verdict(Event.FAIL, "agent: 1 attempt ended unfinished; unchecked: 2 'two'"),
    ),
    (
        "the end was not marked, for the last time",
        end(seen(DONE), tries=2),
        Verdict(Event.FAIL, "agent: 3 attempts ended unfinished; every item is checked but ipc/.done is missing"),
    ),
    (
        "the end was marked too early",
        end(seen(HALF, done=True)),
        Verdict(Event.GIVE_BACK, "to be continued: 1 of 2 items are checked", counts=True),
    ),
]


@pytest.mark.parametrize(("ended", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_end_of_an_agent_means(ended: End, verdict: Verdict | None) -> None:
    assert conclude(ended) == verdict


@pytest.mark.parametrize("state", sorted(HELD))
@pytest.mark.parametrize(("ended", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_verdict_is_a_move_that_the_table_has(ended: End, verdict: Verdict | None, state: Any) -> None:
    assert verdict is None or after(state, verdict.event) is not None


def test_only_an_attempt_that_is_to_be_continued_counts_as_a_try() -> None:
    counting = {verdict.event for _, _, verdict in CASES if verdict is not None and verdict.counts}

    assert counting == {Event.GIVE_BACK}


def test_a_reason_names_three_items_and_how_many_more() -> None:
    shown = plan.parse(b"- [x] a\n- [ ] b\n- [?] c\n- [!] d\n- [ ] e\n- [ ] f\n")

    assert unchecked(shown) == "unchecked: 2 'b', 3 'c', 4 'd' and 2 more"


def test_a_long_item_is_cut_in_a_reason() -> None:
    assert unchecked(Plan("", plan.parse(b"- [ ] " + b"a" * 81).items)) == f"unchecked: 1 '{'a' * 79}…'"


@pytest.mark.parametrize(
    ("exit", "last_line", "said"),
    [
        (ProcessExit(code=3), "", "the agent ended with exit status 3"),
        (ProcessExit(code=3), "oh", "the agent ended with exit status 3; its last line: oh"),
        (ProcessExit(signal=9), "", "the agent was killed by signal 9"),
        (ProcessExit(error="its warden died"), "oh", "its warden died; its last line: oh"),
        (ProcessExit(code=1), "a" * 300, f"the agent ended with exit status 1; its last line: {'a' * 200}"),
        (ProcessExit(), "", "the agent ended; nobody saw how"),
    ],
)
def test_how_an_agent_ended(exit: ProcessExit, last_line: str, said: str) -> None:
    assert how(exit, last_line) == said


FAILED = ProcessExit(code=1)


@pytest.mark.parametrize(
    ("exit", "stop", "before", "verdict"),
    [
        (ENDED, None, False, Verdict(Event.FINISH)),
        (ENDED, None, True, Verdict(Event.FINISH)),
        (FAILED, Stop.LOST, False, None),
        (FAILED, Stop.DRAIN, False, Verdict(Event.GIVE_BACK, "its worker stopped")),
        (FAILED, Stop.TIMEOUT, True, Verdict(Event.FAIL, "verify: the check did not end in the attempt's time")),
        (
            FAILED,
            None,
            False,
            Verdict(
                Event.GIVE_BACK,
                "one more attempt: the check ended with exit status 1; its last line: 2 failed",
                check="1 ok\n2 failed",
            ),
        ),
        (
            FAILED,
            None,
            True,
            Verdict(Event.FAIL, "verify: the check ended with exit status 1; its last line: 2 failed"),
        ),
    ],
)
def test_the_end_of_a_check_means(exit: ProcessExit, stop: Stop | None, before: bool, verdict: Verdict | None) -> None:
    assert judge(exit, stop, "1 ok\n2 failed\n", failed_before=before) == verdict


def test_an_agent_that_did_not_begin_for_no_fault_of_its_own_gets_another_try() -> None:
    verdict = not_begun("its warden died", tries=1, limit=3)

    assert verdict == Verdict(Event.GIVE_BACK, "the agent did not begin: its warden died", counts=True)


def test_but_not_more_than_the_task_has() -> None:
    assert not_begun("its warden died", tries=2, limit=3) == Verdict(Event.FAIL, "start: its warden died")


def agreed(*events: tuple[str, dict[str, int]]) -> int:
    return items_agreed([Entry(seq, "", event, "", facts=facts) for seq, (event, facts) in enumerate(events, 1)])


def test_the_items_of_a_task_are_those_a_person_gave_last() -> None:
    assert agreed(("submit", {"total": 5}), ("tick", {"total": 2, "done": 1})) == 5
    assert agreed(("hold", {"total": 5}), ("fail", {"total": 2, "done": 2}), ("retry", {"total": 2, "done": 2})) == 2
    assert agreed() == 0
