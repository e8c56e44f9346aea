"""What the bench makes of what it saw, and how it shows it. The numbers themselves are never tested."""

import pytest

from tests.bench import report
from tests.bench.counting import COUNT, Fate, Line, judge
from tests.bench.figures import Series

KILLED = 100.0


def run(name: str, first: int, last: int, at: float, pause: float = 0.5) -> list[Line]:
    """A run that writes the ticks `first` to `last`, and has begun the next one."""
    lines = []
    for number in range(first, last + 1):
        lines += [Line(at, name, "begin", number), Line(at + pause, name, "tick", number)]
        at += pause
    return [*lines, *([Line(at, name, "begin", last + 1)] if last < COUNT else [])]


FIRST = run("1", 1, 3, KILLED - 2)


@pytest.mark.parametrize(
    ("lines", "fate"),
    [
        (FIRST, Fate(None, twice=0, lost=7, together=False, went_on=False)),
        (FIRST + run("2", 4, 10, KILLED + 4.5), Fate(4.5, twice=0, lost=0, together=False, went_on=False)),
        (FIRST + run("2", 1, 10, KILLED + 4.5), Fate(4.5, twice=3, lost=0, together=False, went_on=False)),
        (FIRST + run("2", 5, 10, KILLED + 4.5), Fate(4.5, twice=0, lost=1, together=False, went_on=False)),
        (FIRST + run("1", 4, 10, KILLED), Fate(None, twice=0, lost=0, together=False, went_on=True)),
        (
            FIRST + run("1", 4, 10, KILLED) + run("2", 1, 10, KILLED + 1),
            Fate(1.0, twice=10, lost=0, together=True, went_on=True),
        ),
    ],
    ids=["never again", "from where it was", "from the start", "a tick left out", "not killed at all", "both at once"],
)
def test_what_became_of_a_job_is_read_off_what_it_wrote(lines: list[Line], fate: Fate) -> None:
    assert judge(lines, KILLED) == fate


def test_a_healthy_job_that_is_started_again_is_two_at_once() -> None:
    fate = judge(run("1", 1, 10, 0.0, pause=2) + run("2", 1, 7, 6.0, pause=2), None)

    assert (fate.after, fate.twice, fate.together) == (None, 7, True)


def test_a_part_of_many_small_numbers_is_one_line_for_each_of_whom() -> None:
    rows = [
        Series("recover", "dispatch", "jobs", "", (20.0,)),
        Series("recover", "dispatch", "p50", "s", (4.0, 4.5, 5.0), aim=5.0),
        Series("recover", "dispatch", "twice", "", (1.0,), aim=0),
        Series("recover", "another", "jobs", "", (20.0,), peer=True),
        Series("recover", "another", "never in 130 s", "", (20.0,), peer=True),
    ]

    assert report.table(rows, {"date": "today"}).splitlines() == [
        "date  today",
        "",
        "recover: killed with its jobs → the next run     jobs      p50    twice  never in 130 s",
        "    dispatch                                       20   4.50 s        1               –  aims MISSED",
        "    another                                        20        –        –              20",
        "",
        "aims: 1 of 2 met",
        "  missed: recover, dispatch, twice: 1, aim ≤ 0",
    ]
