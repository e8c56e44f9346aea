"""The table of states: what it allows, and that it holds together."""

from itertools import product

import pytest

from dispatch_queue.states import FINAL, HELD, TRANSITIONS, Event, State, after, moves

S, E = State, Event
STATES: list[State | None] = [None, *State]
OUTSIDE = [pair for pair in product(STATES, Event) if pair not in TRANSITIONS]


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ([E.SUBMIT, E.CLAIM, E.FINISH], S.DONE),
        ([E.SUBMIT, E.CLAIM, E.ASK, E.ANSWER, E.FINISH], S.DONE),
        ([E.SUBMIT, E.CLAIM, E.ASK, E.PARK, E.ANSWER, E.CLAIM, E.FINISH], S.DONE),
        ([E.SUBMIT, E.CLAIM, E.LOSE, E.CLAIM, E.FAIL, E.RETRY], S.QUEUED),
        ([E.SUBMIT, E.CLAIM, E.LIMIT, E.RELEASE, E.CLAIM], S.RUNNING),
        ([E.HOLD, E.RELEASE, E.CLAIM, E.GIVE_BACK], S.QUEUED),
        ([E.HOLD, E.FAIL, E.RETRY, E.CANCEL, E.RETRY], S.QUEUED),
    ],
)
def test_the_ways_of_a_task_lead_where_the_design_says(way: list[Event], end: State) -> None:
    state: State | None = None
    for event in way:
        state = after(state, event)
        assert state is not None, event
    assert state is end


@pytest.mark.parametrize(("state", "event"), OUTSIDE)
def test_a_pair_outside_the_table_leads_nowhere(state: State | None, event: Event) -> None:
    assert after(state, event) is None


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_every_state_that_is_not_final_can_be_cancelled(state: State) -> None:
    assert after(state, E.CANCEL) is S.CANCELLED


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_left_only_by_retry(state: State) -> None:
    assert [event for event in Event if after(state, event) is not None] == [E.RETRY]
    assert after(state, E.RETRY) is S.QUEUED


@pytest.mark.parametrize("event", [E.PARK, E.LOSE, E.GIVE_BACK, E.FAIL, E.CANCEL])
def test_an_attempt_ends_alike_whether_its_agent_works_or_asks(event: Event) -> None:
    assert after(S.RUNNING, event) is after(S.ASKING, event) is not None


def test_only_a_claim_and_an_answer_lead_into_a_state_that_holds_a_slot_from_outside() -> None:
    into = {(source, event) for (source, event), target in TRANSITIONS.items() if target in HELD and source not in HELD}
    assert into == {(S.QUEUED, E.CLAIM)}


def test_every_state_can_be_reached_and_every_event_is_used() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_the_moves_of_all_events_are_the_table() -> None:
    rebuilt = {
        (State(source) if source else None, event): State(target)
        for event in Event
        for source, target in moves(event).items()
    }
    assert rebuilt == dict(TRANSITIONS)
