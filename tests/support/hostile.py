"""Hostile agents: programs that break the record of their task, each in one way.

Run as `python -I -S hostile.py NAME SECRET OUTSIDE`, with the environment a worker gives its agents. SECRET is a file
that must not be read by anybody but the agent, OUTSIDE a folder in which nothing may change. Those that wait to be
ended give up after a minute.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

PATIENCE_SECONDS = 60.0
MIB = 1024 * 1024
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066"
FAR = 10**11  # a seq that no journal reaches


def command(name: str, secret: Path, outside: Path) -> str:
    """The command of a back end whose agent is the program `name`, as config.yaml has it."""
    return " ".join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), name, str(secret), str(outside)])


def _task() -> Path:
    return Path(os.environ["DISPATCH_TASK_DIR"])


def _attempt() -> int:
    return int(os.environ["DISPATCH_ATTEMPT"])


def _wait() -> None:
    time.sleep(PATIENCE_SECONDS)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def _tick(count: int = sys.maxsize) -> None:
    place = _task() / "plan.md"
    text = place.read_text().replace("- [ ] ", "- [x] ", count)
    making = place.with_name(".plan.tmp")
    making.write_text(text)
    making.rename(place)


def _finish() -> None:
    _tick()
    (_task() / "ipc/.done").touch()


def _instead(name: str) -> Path:
    """The place of a file or folder of the task, which is gone."""
    place = _task() / name
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    return place


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _huge(place: Path, mib: int) -> None:
    with open(place, "wb") as stream:
        for _number in range(mib):
            stream.write(b"x" * MIB)


# -- plan.md ----------------------------------------------------------------------------------------------------------


def links_the_plan(secret: Path, _outside: Path) -> None:
    _instead("plan.md").symlink_to(secret)
    _wait()


def makes_the_plan_a_folder(_secret: Path, _outside: Path) -> None:
    (_instead("plan.md") / "within").mkdir(parents=True)
    _wait()


def makes_the_plan_a_pipe(_secret: Path, _outside: Path) -> None:
    os.mkfifo(_instead("plan.md"))
    _wait()


def makes_the_plan_huge(_secret: Path, _outside: Path) -> None:
    _huge(_task() / "plan.md", 50)
    _wait()


def makes_the_plan_garbage(_secret: Path, _outside: Path) -> None:
    (_task() / "plan.md").write_bytes(b"\x00\xff" + ESCAPES.encode() + b"\n- [x ] no\n")


def removes_the_plan(_secret: Path, _outside: Path) -> None:
    _instead("plan.md")


def rewrites_the_plan_all_the_time(_secret: Path, _outside: Path) -> None:
    """Ticks and unticks as fast as it can for a second, then finishes."""
    place = _task() / "plan.md"
    texts = [place.read_text(), place.read_text().replace("- [ ] ", "- [x] ", 1)]
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        for text in texts:
            place.write_text(text)
    place.write_text(texts[0])
    _finish()


def changes_the_plan_without_end(_secret: Path, _outside: Path) -> None:
    """Ticks and unticks 500 items each time, so that an attempt's share of events is soon used up."""
    place = _task() / "plan.md"
    texts = ["".join(f"- [{mark}] item {number}\n" for number in range(500)) for mark in " x"]
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for text in texts:
            making = place.with_name(".plan.tmp")
            making.write_text(text)
            making.rename(place)
            time.sleep(0.02)


# -- ipc/ -------------------------------------------------------------------------------------------------------------


def links_the_ipc_folder(_secret: Path, outside: Path) -> None:
    _instead("ipc").symlink_to(outside)
    _wait()


def makes_the_ipc_folder_a_file(_secret: Path, _outside: Path) -> None:
    _instead("ipc").write_text("no folder\n")
    _wait()


def links_a_question(secret: Path, _outside: Path) -> None:
    (_task() / "ipc/001.question").symlink_to(secret)
    _wait()


def links_an_answer(secret: Path, _outside: Path) -> None:
    (_task() / "ipc/001.answer").symlink_to(secret)
    _wait()


def links_the_end(secret: Path, _outside: Path) -> None:
    _tick()
    (_task() / "ipc/.done").symlink_to(secret)
    _wait()


def asks_by_a_pipe(_secret: Path, _outside: Path) -> None:
    os.mkfifo(_task() / "ipc/001.question")
    _wait()


def asks_by_a_folder(_secret: Path, _outside: Path) -> None:
    (_task() / "ipc/001.question").mkdir()
    _wait()


def asks_too_much(_secret: Path, _outside: Path) -> None:
    _huge(_task() / "ipc/001.question", 10)
    _wait()


def asks_without_end(_secret: Path, _outside: Path) -> None:
    """Asks all that can be numbered, and goes on."""
    for number in range(1, 3000):
        (_task() / f"ipc/{number:03d}.question").write_text("why?\n")
    _wait()


def fills_the_ipc_folder(_secret: Path, _outside: Path) -> None:
    for number in range(5000):
        (_task() / f"ipc/note-{number}").touch()
    _wait()


def writes_beside_its_record(_secret: Path, _outside: Path) -> None:
    (_task() / "ipc/../../x").write_text("hello\n")
    _finish()


def asks_in_no_language(_secret: Path, _outside: Path) -> None:
    """A question that is no UTF-8."""
    (_task() / "ipc/001.question").write_bytes(b"which \xff\xfe\x80 one?\n")
    _until(lambda: (_task() / "ipc/001.answer").exists())
    _finish()


def tells_the_terminal_what_to_do(_secret: Path, _outside: Path) -> None:
    """Control sequences in all that is shown: plan, note, transcript, question, output, its own result."""
    _say(f"transcript {ESCAPES}")
    place = _task() / "plan.md"
    place.write_text(f"# {ESCAPES}\n\n- [?] item {ESCAPES}\n  note {ESCAPES}\n")
    (_task() / "output.md").write_text(ESCAPES)
    (_task() / "ipc/001.question").write_text(f"question {ESCAPES}\n")
    (_task() / "attempts/7").mkdir(parents=True)
    (_task() / "attempts/7/result.json").write_text(json.dumps({"end": ESCAPES, "reason": ESCAPES, "host": 7}))
    _until(lambda: (_task() / "ipc/001.answer").exists())
    place.write_text(f"- [x] item {ESCAPES}\n- [x] Two\n")
    (_task() / "ipc/.done").touch()


def answers_itself(_secret: Path, _outside: Path) -> None:
    (_task() / "ipc/001.question").write_text("may I?\n")
    (_task() / "ipc/001.answer").write_text("yes\n")
    (_task() / "ipc/001.done").touch()
    _finish()


def answers_before_it_asks(_secret: Path, _outside: Path) -> None:
    (_task() / "ipc/001.answer").write_text("yes\n")
    time.sleep(0.3)
    (_task() / "ipc/001.question").write_text("may I?\n")
    _until(lambda: '"answer"' in (_task() / "journal.jsonl").read_text())
    _finish()


# -- journal.jsonl and task.yaml, where home and live copy are one ----------------------------------------------------

FORGED = {"at": "2026-01-01T00:00:00.000Z", "by": "h:1", "reason": "forged", "done": 9, "total": 9}


def _forge(*lines: str) -> None:
    with open(_task() / "journal.jsonl", "a") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def _entry(seq: object, event: str, state: str, **facts: object) -> str:
    return json.dumps({"seq": seq, "state": state, "event": event, **FORGED, **facts})


def forges_the_end_of_its_task(_secret: Path, _outside: Path) -> None:
    """Says in the journal, far ahead of all that can come, that it is done; ticks one item, and fails the next time."""
    _forge(_entry(10**15, "finish", "done"), _entry(FAR, "finish", "done"))
    if _attempt() > 1:
        sys.exit(3)
    _tick(1)


def forges_the_next_entries(_secret: Path, _outside: Path) -> None:
    """Takes the seqs that the next real entries get, and one that was given already; then does its work."""
    for seq in (1, 2, 3, 4, 5, 6):
        _forge(_entry(seq, "fail", "failed"))
    _tick(1)
    time.sleep(0.1)
    _forge(_entry(2, "note", "cancelled", text="forged"))
    _finish()


def writes_garbage_into_the_journal(_secret: Path, _outside: Path) -> None:
    with open(_task() / "journal.jsonl", "ab") as stream:
        stream.write(b"\x00\xff\n[[[\n" + b"[" * 100_000 + b"\n")
    _forge(
        '{"seq":1e999,"event":"x","at":"x","by":"x"}',
        '{"seq":5,"state":["done"],"event":"x","at":"x","by":"x"}',
        '{"seq":5,"event":"claim","at":"x","by":"x","attempt":"many"}',
        '{"seq":5,"event":"tick","at":"x","by":"x","done":1}',
        '{"seq":5,"event":"ask","at":"x","by":"x"}',
        f'{{"seq":5,"event":"claim","at":"2026-01-01","by":"x","worker":{json.dumps(ESCAPES)}}}',
        "no end of line",
    )
    _finish()


def fills_the_journal(_secret: Path, _outside: Path) -> None:
    _huge(_task() / "journal.jsonl", 70)
    _finish()


def removes_the_journal(_secret: Path, _outside: Path) -> None:
    _instead("journal.jsonl")
    _finish()


def links_the_journal(secret: Path, _outside: Path) -> None:
    _instead("journal.jsonl").symlink_to(secret)
    _finish()


def makes_the_journal_a_folder(_secret: Path, _outside: Path) -> None:
    _instead("journal.jsonl").mkdir()
    _finish()


def rewrites_its_task(_secret: Path, _outside: Path) -> None:
    """Another id, a title that is none, a time that is none: for the next attempt, which checks the second item."""
    place = _task() / "task.yaml"
    if _attempt() == 1:
        text = place.read_text().replace(f'id: "{_task().name}"', 'id: "../../../../outside"')
        place.write_text(text + 'timeout: "long"\ntitle: 7\nbackend: "shell"\n')
        _tick(1)
        return
    _finish()


def makes_its_task_garbage(_secret: Path, _outside: Path) -> None:
    (_task() / "task.yaml").write_bytes(b"\xff\x00 no yaml")
    _finish()


def links_its_task(secret: Path, _outside: Path) -> None:
    _instead("task.yaml").symlink_to(secret)
    _finish()


# -- output.md, attempts/, the whole folder ---------------------------------------------------------------------------


def links_the_output(secret: Path, _outside: Path) -> None:
    (_task() / "output.md").symlink_to(secret)
    _finish()


def makes_the_output_huge(_secret: Path, _outside: Path) -> None:
    _huge(_task() / "output.md", 100)
    _finish()


def links_its_transcript(secret: Path, _outside: Path) -> None:
    _say("first words")
    _instead("attempts/1/agent.log").symlink_to(secret)
    _say("last words")
    _finish()


def links_the_attempts(_secret: Path, outside: Path) -> None:
    _say("words")
    _instead("attempts").symlink_to(outside)
    _finish()


def lays_a_trap_for_the_next_attempt(secret: Path, _outside: Path) -> None:
    """Puts links where the transcript and the prompt of the second attempt go."""
    _say(f"attempt {_attempt()}")
    if _attempt() == 1:
        (_task() / "attempts/2").mkdir()
        for name in ("agent.log", "prompt.md", "result.json"):
            (_task() / "attempts/2" / name).symlink_to(secret)
        _tick(1)
        return
    _finish()


def lays_the_next_attempt_elsewhere(_secret: Path, outside: Path) -> None:
    (_task() / "attempts/2").symlink_to(outside)
    _tick(1)


def links_its_folder(_secret: Path, outside: Path) -> None:
    task = _task()
    task.rename(task.with_name(f".{task.name}.moved"))
    task.symlink_to(outside)
    _wait()


def removes_its_folder(_secret: Path, _outside: Path) -> None:
    shutil.rmtree(_task())


def cleans_the_checkout(_secret: Path, _outside: Path) -> None:
    """What `git clean -fdx` does: the whole of `.dispatch/` is gone. No malice is needed."""
    shutil.rmtree(_task().parents[1])


def makes_its_folder_a_file(_secret: Path, _outside: Path) -> None:
    task = _task()
    shutil.rmtree(task)
    task.write_text("no folder\n")
    _wait()


# -- processes --------------------------------------------------------------------------------------------------------


def kills_its_parent(_secret: Path, _outside: Path) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    _wait()


def prints_binary(_secret: Path, _outside: Path) -> None:
    sys.stdout.buffer.write(bytes(range(256)) + "ü".encode()[:1] + ESCAPES.encode() + b"\n")
    sys.stdout.flush()
    _finish()


def prints_100_mib(_secret: Path, _outside: Path) -> None:
    for _number in range(100):
        os.write(1, b"x" * (MIB - 1) + b"\n")
    _finish()


NAMES = [name for name, value in globals().items() if isinstance(value, FunctionType) and name[0] != "_"]
NAMES.remove("command")

if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
