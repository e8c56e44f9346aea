"""Times as people write them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dispatch_queue import when
from dispatch_queue.clock import stamp
from dispatch_queue.errors import BadInput

NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """In which `TZ` counts: Berlin to begin with."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("0s", 0),
        ("2H", 7200),
    ],
)
def test_a_delay_is_a_number_with_its_unit(text: str, seconds: int) -> None:
    assert when.parse_delay(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "-5m", "1.5h", "10 minutes", "m", "h2", "١m", "9" * 400 + "s"])
def test_what_is_no_delay_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="not a delay") as caught:
        when.parse_delay(text)
    assert "90s" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["367d", "999999999d"])
def test_a_delay_of_years_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="more than 366 days"):
        when.parse_delay(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16:30", "2026-11-23T15:30:00.000Z"),  # today, an hour ahead of UTC
        ("13:00", "2026-11-24T12:00:00.000Z"),  # that has passed today by half a minute
        ("13:01", "2026-11-23T12:01:00.000Z"),
        ("13:00:45", "2026-11-23T12:00:45.000Z"),
        ("9:05", "2026-11-24T08:05:00.000Z"),
        ("2026-11-24T16:11", "2026-11-24T15:11:00.000Z"),
        ("2026-11-24 16:11", "2026-11-24T15:11:00.000Z"),
        ("2026-11-24", "2026-11-23T23:00:00.000Z"),
        ("2026-11-24T16:11Z", "2026-11-24T16:11:00.000Z"),
        ("2026-11-24T16:11+05:30", "2026-11-24T10:41:00.000Z"),
        ("2027-07-01T12:00", "2027-07-01T10:00:00.000Z"),  # in summer
    ],
)
@pytest.mark.usefixtures("zone")
def test_a_time_is_the_next_one_of_its_kind(text: str, expected: str) -> None:
    assert stamp(when.parse_time(text, NOON)) == expected


@pytest.mark.usefixtures("zone")
def test_a_time_that_the_night_of_the_clock_change_has_not_is_found_all_the_same() -> None:
    evening = datetime(2027, 3, 27, 20, tzinfo=UTC)
    assert evening < when.parse_time("2:30", evening) < evening + timedelta(hours=12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soon", "not a time"),
        ("25:00", "not a time"),
        ("12:60", "not a time"),
        ("2026-13-01", "not a time"),
        ("", "not a time"),
        ("0001-01-01", "not a time|has passed"),
        ("2026-11-23T12:00Z", "has passed"),
        ("2020-01-01", "has passed"),
        ("2036-01-01", "more than 366 days"),
        ("9999-12-31T23:59", "not a time|more than 366 days"),
    ],
)
def test_what_is_no_time_to_come_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        when.parse_time(text, NOON)
    assert caught.value.hint


@pytest.mark.usefixtures("zone")
def test_a_stamp_is_shown_in_local_time() -> None:
    assert when.shown("2026-11-24T15:11:59.000Z") == "2026-11-24 16:11"


@pytest.mark.parametrize("text", ["", "soon", "9999-99-99T00:00:00Z"])
def test_what_is_no_stamp_is_shown_as_it_is_and_is_no_time(text: str) -> None:
    assert when.shown(text) == text
    assert when.milliseconds(text) == 0


def test_a_stamp_is_kept_to_the_millisecond() -> None:
    assert when.milliseconds("1970-01-01T00:00:01.234Z") == 1234
