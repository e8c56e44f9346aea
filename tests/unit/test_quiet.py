"""When an agent counts as quiet. The tree is this process, which uses CPU only when a test makes it."""

import os

import pytest

from worker.quiet import CPU_SECONDS, Attention, Quiet

AFTER = 600.0


class Tree(Attention):
    """An attention whose measure is set by the test: what we measure elsewhere is a real process."""

    cpu = 10.0

    def _measure(self) -> tuple[int, float]:
        return 2, self.cpu


def test_nothing_is_said_before_the_time() -> None:
    assert Tree(1, now=0.0, after=AFTER).look(AFTER - 1) is False


def test_an_agent_that_does_nothing_is_quiet_once() -> None:
    tree = Tree(1, now=0.0, after=AFTER)
    tree.look(AFTER / 2)

    assert tree.look(AFTER) == Quiet(AFTER, 2, 0.0)
    assert tree.look(AFTER + 30) is False
    assert tree.look(AFTER * 2) is False


def test_output_keeps_it_from_being_quiet() -> None:
    tree = Tree(1, now=0.0, after=AFTER)
    tree.stirred(AFTER - 1)

    assert tree.look(AFTER) is False


def test_cpu_use_keeps_it_from_being_quiet() -> None:
    tree = Tree(1, now=0.0, after=AFTER)
    tree.look(AFTER / 2)
    tree.cpu += CPU_SECONDS

    assert tree.look(AFTER) is False
    assert tree.look(AFTER + 60) is False


@pytest.mark.parametrize("how", ["output", "cpu"])
def test_a_quiet_agent_that_stirs_is_told_of(how: str) -> None:
    tree = Tree(1, now=0.0, after=AFTER)
    tree.look(AFTER / 2)
    assert isinstance(tree.look(AFTER), Quiet)

    if how == "output":
        tree.stirred(AFTER + 200)
    else:
        tree.cpu += CPU_SECONDS

    assert tree.look(AFTER + 200) is None


def test_the_evidence_is_a_sentence() -> None:
    evidence = "no output and no change of the plan for 10 min, 3 processes used 0.1 s of CPU"
    assert str(Quiet(600.0, 3, 0.1)) == evidence


def test_the_measure_is_of_the_real_tree() -> None:
    processes, cpu = Attention(os.getpid(), now=0.0, after=AFTER)._measure()

    assert processes >= 1
    assert cpu > 0.0


def test_a_tree_that_is_gone_measures_nothing() -> None:
    assert Attention(2**22 + 1, now=0.0, after=AFTER)._measure() == (0, 0.0)
