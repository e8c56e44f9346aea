"""The floor of free disk space: below it no attempt begins, and the reason says where and how much."""

from pathlib import Path

import pytest

from dispatch_queue.config.parse import parse
from worker.space import FULL_BYTES, FULL_FILES, MIB, decide, full

HOME, PROJECT = Path("/home/me/.dispatch"), Path("/data/shop")


@pytest.mark.parametrize("left", [512 * MIB, 900 * MIB])
def test_at_the_floor_and_above_attempts_begin(left: int) -> None:
    assert decide({HOME: left, PROJECT: 600 * MIB}, 512) is None


def test_below_the_floor_the_reason_names_the_fullest_folder() -> None:
    left = {HOME: 500 * MIB, PROJECT: 120 * MIB + 7}
    assert decide(left, 512) == "no space: 120 MiB left on /data/shop, the floor is 512 MiB"


def test_a_byte_below_is_below() -> None:
    assert decide({HOME: 512 * MIB - 1}, 512) == "no space: 511 MiB left on /home/me/.dispatch, the floor is 512 MiB"


def test_without_a_floor_or_a_folder_that_can_be_asked_there_is_no_reason() -> None:
    assert decide({HOME: 0}, 0) is None
    assert decide({}, 512) is None


def test_a_disk_is_full_without_room_for_a_byte_or_for_a_file() -> None:
    assert full({HOME: FULL_BYTES}, {HOME: FULL_FILES}) is None
    assert full({HOME: MIB, PROJECT: FULL_BYTES - 1}, {}) == "no space: /data/shop is full"
    assert full({HOME: MIB}, {HOME: FULL_FILES - 1}) == "no space: no more files can be made on /home/me/.dispatch"


@pytest.mark.parametrize("key", ["min_free_mib", "keep_days"])
def test_a_limit_below_zero_is_refused_with_its_line(key: str) -> None:
    (problem,) = parse(f"worker:\n  {key}: -1\n", "config.yaml").problems
    assert (problem.line, problem.text) == (2, f"worker.{key}: must be 0 or more, not `-1`")
    assert not parse(f"worker:\n  {key}: 0\n", "config.yaml").problems
