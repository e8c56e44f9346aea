"""What a task may use, what it has used, and what is left."""

from typing import Any

import pytest

from dispatch_queue.caps import NO_CAPS, Caps, Used, can_cap, check, used
from dispatch_queue.config.schema import Backend, Config, Model
from dispatch_queue.errors import BadInput

CONFIG = Config(
    backends={"work": Backend("env -u CLAUDECODE claude -p"), "mine": Backend("my-agent"), "codex": Backend()},
    models={"gpt-5": Model("codex"), "opus": Model("claude"), "odd": Model("mine")},
)


def result(cost: Any = None, turns: Any = None, session: str | None = "s") -> dict[str, Any]:
    return {"session": session, "usage": {"cost_usd": cost, "turns": turns}}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], Used()),
        ([{}, {"usage": None}, {"usage": "much"}, result("a lot", True), result(-1, -1)], Used()),
        ([result(0.5, 3, "a"), result(0.25, 2, "b")], Used(5, 0.75)),
        # A session that is carried on tells its cost from its beginning, and its turns anew.
        ([result(0.5, 3), result(0.75, 2)], Used(5, 0.75)),
        ([result(0.5, 3), result(None, None), result(1, 1)], Used(4, 1.0)),
        ([result(0.5, session=None), result(0.5, session=None)], Used(0, 1.0)),
    ],
)
def test_what_was_used_is_what_the_attempts_told(results: list[dict[str, Any]], expected: Used) -> None:
    assert used(results) == expected


@pytest.mark.parametrize(
    ("caps", "so_far", "left"),
    [
        (NO_CAPS, Used(9, 9.0), NO_CAPS),
        (Caps(10), Used(4, 9.0), Caps(6)),
        (Caps(10), Used(10), None),
        (Caps(0, 2.0), Used(99, 0.5), Caps(0, 1.5)),
        (Caps(0, 2.0), Used(0, 2.0), None),
        (Caps(10, 2.0), Used(1, 3.0), None),
    ],
)
def test_what_is_left_is_never_more_than_the_cap(caps: Caps, so_far: Used, left: Caps | None) -> None:
    assert caps.left(so_far) == left


@pytest.mark.parametrize(
    ("backend", "able"), [("claude", True), ("work", True), ("codex", False), ("mine", False), ("shell", False)]
)
def test_only_a_cli_that_tells_what_it_used_can_be_capped(backend: str, able: bool) -> None:
    assert can_cap(CONFIG, backend) is able
    if able:
        check(CONFIG, backend, Caps(1, 1.0), ())
    else:
        with pytest.raises(BadInput, match=f"--max-cost cannot be kept: backend `{backend}`") as caught:
            check(CONFIG, backend, Caps(1, 1.0), list(CONFIG.models))
        assert "--model opus" in (caught.value.hint or "")


def test_who_retries_is_told_how_a_cap_is_taken_away() -> None:
    with pytest.raises(BadInput) as caught:
        check(CONFIG, "codex", Caps(1, 1.0), list(CONFIG.models), again=True)

    assert caught.value.hint == ("add --max-turns 0 --max-cost 0, for no cap, or take a model that does: --model opus")


def test_without_caps_every_backend_will_do() -> None:
    check(CONFIG, "mine", NO_CAPS, ())
