"""A scripted model: what it says to what it is sent, whichever API that comes through.

A script is the turns of one attempt of a task. Which turn is due is read off the conversation itself, from the task's
newest prompt on, as a model has no other memory: so a request that is sent again gets the same answer.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_TASK = re.compile(r"\.dispatch/tasks/([a-z0-9-]+)/plan\.md")
_ATTEMPT = re.compile(r"This is attempt (\d+)")


@dataclass(frozen=True)
class Run:
    """A turn: have a command run in the CLI's shell."""

    command: str


@dataclass(frozen=True)
class Say:
    """A turn: say something. The CLI takes that for the end of its work."""

    text: str


@dataclass(frozen=True)
class Refuse:
    """A turn: the API answers with an HTTP status and JSON, so many `times` (None: for ever) before the next turn."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None


Turn = Run | Say | Refuse


@dataclass(frozen=True)
class Prompt:
    """What the user of a CLI said."""

    text: str


@dataclass(frozen=True)
class Ran:
    """A command that the model had run, and what it printed. `session`: of the tool in which it still runs."""

    command: str
    output: str
    session: str | None = None


@dataclass(frozen=True)
class Said:
    """What the model said."""

    text: str


Message = Prompt | Ran | Said


@dataclass(frozen=True)
class Conversation:
    """What an API was sent: the `session` is the CLI's own id of it, `key` what it showed for an account."""

    api: str
    model: str
    session: str
    key: str
    messages: tuple[Message, ...]

    @property
    def prompts(self) -> list[str]:
        """The prompts of tasks in it; what else a CLI adds for the user is none."""
        return [one.text for one in self.messages if isinstance(one, Prompt) and _TASK.search(one.text)]

    @property
    def task(self) -> str:
        """The task's id, "" where there is none."""
        found = _TASK.search(self.prompts[-1]) if self.prompts else None
        return found[1] if found else ""

    @property
    def attempt(self) -> int:
        found = _ATTEMPT.search(self.prompts[-1]) if self.prompts else None
        return int(found[1]) if found else 1

    @property
    def turns(self) -> list[Ran | Said]:
        """What the model did since the newest prompt."""
        since: list[Ran | Said] = []
        for one in self.messages:
            if isinstance(one, Ran | Said):
                since.append(one)
            elif _TASK.search(one.text):
                since = []
        return since

    @property
    def output(self) -> str:
        """What the newest command printed."""
        return next((one.output for one in reversed(self.turns) if isinstance(one, Ran)), "")


Script = Sequence[Turn | Callable[[Conversation], Turn]]


class Model:
    """Plays scripts, and keeps what it was sent. May be used from many threads."""

    def __init__(self) -> None:
        self.heard: list[Conversation] = []
        self._scripts: dict[tuple[str, int], Script] = {}
        self._refused: dict[tuple[str, int, int], int] = {}
        self._lock = threading.Lock()

    def plays(self, task: str, *attempts: Script) -> None:
        """The scripts of a task's attempts; the last one is that of all further ones too."""
        self._scripts |= {(task, number): script for number, script in enumerate(attempts, 1)}

    def of(self, task: str) -> list[Conversation]:
        """What was sent for a task, in its order."""
        with self._lock:
            return [one for one in self.heard if one.task == task]

    def sessions(self, task: str) -> list[str]:
        """The sessions a task was worked on in, in their order."""
        return list(dict.fromkeys(one.session for one in self.of(task)))

    def turn(self, sent: Conversation) -> Turn:
        """What the model does now."""
        with self._lock:
            self.heard.append(sent)
            made = len(sent.turns)
            for number, entry in enumerate(self._script(sent)):
                turn = entry(sent) if callable(entry) else entry
                if not isinstance(turn, Refuse):
                    if made == 0:
                        return turn
                    made -= 1
                elif made == 0 and self._refuses_again(turn, (sent.task, sent.attempt, number)):
                    return turn
        return Say("My script has no more turns.")

    def _script(self, sent: Conversation) -> Script:
        attempts = [number for task, number in self._scripts if task == sent.task]
        return self._scripts[sent.task, min(sent.attempt, max(attempts))] if attempts else ()

    def _refuses_again(self, turn: Refuse, place: tuple[str, int, int]) -> bool:
        refused = self._refused.get(place, 0)
        self._refused[place] = refused + 1
        return turn.times is None or refused < turn.times
