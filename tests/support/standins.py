"""Stand-in agents: programs that take a prompt and follow the file protocol, or break it in one way each.

Run as `python -I -S standins.py NAME [WORD…]`, with the environment a worker gives its agents. Only what Python
brings is imported, so that one starts in some milliseconds; each ends by itself, at the latest after a minute.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 60.0
OPEN, DONE = "[ ] ", "[x] "
MIB = 1024 * 1024


def command(name: str, *words: str) -> str:
    """The command of a back end whose agent is the stand-in `name`, as config.yaml has it."""
    return " ".join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), name, *words])


def _task() -> Path:
    return Path(os.environ["DISPATCH_TASK_DIR"])


def _plan() -> str:
    return (_task() / "plan.md").read_bytes().decode()


def _put(name: str, text: str) -> None:
    """Write a file of the task as the protocol wants it: beside, then renamed."""
    place = _task() / name
    making = place.with_name(f".{place.name}.tmp")
    making.write_text(text)
    making.rename(place)


def _tick(count: int = sys.maxsize) -> None:
    _put("plan.md", _plan().replace(OPEN, DONE, count))


def _finish() -> int:
    _tick()
    _put("ipc/.done", "")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def says_its_input(*words: str) -> int:
    """Writes down what it was given: the words of its command, then all of standard input."""
    _put("output.md", "".join(f"word {word}\n" for word in words) + f"stdin {sys.stdin.read()}")
    return _finish()


def prints_binary(*_: str) -> int:
    """Prints every byte there is, and text cut within a character."""
    sys.stdout.buffer.write(bytes(range(256)) + "ü".encode()[:1] + b"\x1b[31m\x00\n")
    return _finish()


def floods(*_: str) -> int:
    """Prints 100 MiB."""
    sys.stdout.flush()
    for _number in range(100):
        os.write(1, b"x" * (MIB - 1) + b"\n")
    return _finish()


def ticks_one(*_: str) -> int:
    """Ticks one item and leaves, content; finishes after the last."""
    _tick(1)
    return 0 if OPEN in _plan() else _finish()


def ticks_none(*_: str) -> int:
    """Says that all is well and leaves."""
    _say("All done!")
    return 0


def ticks_all_but_forgets_to_finish(*_: str) -> int:
    """Ticks every item, and leaves without the completion marker."""
    _tick()
    return 0


def kills_itself(*_: str) -> int:
    """Ends by SIGKILL, with some last words."""
    _say("out of memory?")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def drops_an_item(*_: str) -> int:
    """Makes its plan shorter, and says that all is done."""
    _put("plan.md", "- [x] One\n")
    return _finish()


def plays(folder: str, *words: str) -> int:
    """A CLI with models: prints the recording that `folder` has under its model's name and fails, else finishes.

    What it was started with is added to the file `started` there, a line each time.
    """
    model = next(value for option, value in itertools.pairwise(words) if option in ("--model", "-m"))
    with open(f"{folder}/started", "a") as started:
        started.write(f"{model} {' '.join(words)}\n")
    recording = Path(folder) / model
    if recording.exists():
        _say(recording.read_text())
        return 1
    return _finish()


def leaks(*_: str) -> int:
    """Puts the variable LEAKY_API_KEY wherever an agent can, in two writes where it prints, and gives up."""
    secret = os.environ["LEAKY_API_KEY"]
    os.write(1, f"the key is {secret[:7]}".encode())
    time.sleep(0.2)  # so that it is read in two pieces
    os.write(1, f"{secret[7:]}, surely\n".encode())
    _put("output.md", f"key: {secret}\n")
    _put("context.md", f"key: {secret}\n")
    _put("ipc/001.question", f"is {secret} the key?\n")
    _until((_task() / "ipc/001.answer").exists)
    _put("plan.md", _plan().replace(OPEN, "[!] ", 1).rstrip("\n") + f"\n  {secret} is refused\n")
    return 1


def exits_3(*_: str) -> int:
    """Fails as a program does that does not know its options."""
    sys.stderr.write("unknown option --fast\n")
    return 3


def plans_itself(*_: str) -> int:
    """Replaces the plan by steps of its own, works through them, and reports; its prompt must tell it to."""
    prompt = sys.stdin.read()
    if "replace that item in plan.md" not in prompt:
        _say("nobody told me to plan")
        return 1
    _put("output.md", f"{prompt}\nplan\n{_plan()}")
    _put("plan.md", "# Mine\n\n- [ ] Look\n- [ ] Think\n- [ ] Report\n")
    for _number in range(3):
        _tick(1)
    return _finish()


def overwrites_notes(*_: str) -> int:
    """Puts back a plan it read before there was a note, whenever there is one, three times; then ends."""
    read = _plan()
    for _number in range(3):
        _until(lambda: "Note from dispatcher" in _plan())
        _put("plan.md", read)
    _until(lambda: "Note from dispatcher" in _plan())
    return _finish()


def asks_by_hand(*_: str) -> int:
    """Asks by the files alone, as an agent without `dispatch-ask` does, and writes the answer down."""
    _put("ipc/001.question", "Which colour?\n")
    answer = _task() / "ipc/001.answer"
    _until(lambda: answer.exists() and answer.read_text() != "")
    _put("ipc/001.done", "")
    _put("output.md", answer.read_text())
    return _finish()


def blocks_twice(*_: str) -> int:
    """Marks its item `[?]` with a question under it, as the old way is, in its first two attempts."""
    attempt = int(os.environ["DISPATCH_ATTEMPT"])
    if attempt > 2:
        return _finish()
    _put("plan.md", _plan().replace(OPEN, "[?] ", 1).rstrip("\n") + f"\n  Question no. {attempt}?\n")
    return 0


def leaves_a_crowd(*_: str) -> int:
    """Becomes five processes in three sessions, two of which ignore SIGTERM; each leaves its pid in `crowd/`."""
    crowd = Path("crowd")
    crowd.mkdir()
    for _number in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            break
    (crowd / str(os.getpid())).touch()
    time.sleep(PATIENCE_SECONDS)
    return 0


STANDINS: dict[str, Callable[..., int]] = {
    program.__name__: program
    for program in (
        says_its_input,
        prints_binary,
        floods,
        ticks_one,
        ticks_none,
        ticks_all_but_forgets_to_finish,
        kills_itself,
        drops_an_item,
        plays,
        leaks,
        exits_3,
        plans_itself,
        overwrites_notes,
        asks_by_hand,
        blocks_twice,
        leaves_a_crowd,
    )
}

if __name__ == "__main__":
    sys.exit(STANDINS[sys.argv[1]](*sys.argv[2:]))
