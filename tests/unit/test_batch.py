"""Many tasks from one file: what is read, what is refused with its line, in which order they stand."""

import dataclasses
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch_queue import batch, producer, taskdir
from dispatch_queue.batch import KEYS, Asked, BadBatch, Node
from dispatch_queue.errors import BadInput, UntrustedPath
from dispatch_queue.producer import Request
from dispatch_queue.project import find
from dispatch_queue.states import State
from dispatch_queue.taskdir import TaskDir

FILE = "tasks.yaml"


def requests(asked: list[Asked]) -> list[Request]:
    return [
        Request(
            name=one.text("name"),
            title=one.text("title"),
            prompt=one.text("prompt"),
            items=one.texts("items"),
            model="shell",
            backend="shell",
        )
        for one in asked
    ]


def parsed(text: str) -> list[Asked]:
    """The tasks of a file that has no faults."""
    asked = batch.parse(text, FILE)
    batch.gather(asked, lambda one: None, FILE)
    return asked


def arranged(text: str, names: tuple[str, ...] = (), known: tuple[str, ...] = ()) -> list[Node]:
    asked = parsed(text)
    return batch.arrange(asked, requests(asked), FILE, names=(*names, *known), known=known)


def order(text: str, known: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return {node.id: node.after for node in arranged(text, known=known)}


def refused(text: str, **project: tuple[str, ...]) -> list[tuple[int, str]]:
    with pytest.raises(BadBatch) as caught:
        arranged(text, **project)
    assert caught.value.exit_status == 2
    return [(problem.line, problem.text) for problem in caught.value.problems]


def test_every_key_of_a_task_can_be_given() -> None:
    text = """\
# a comment
- name: one
  title: "One: the first"
  prompt: |
    do it
    well
  items: [a, "b: c"]
  plan: plan.md
  model: 5.10
  isolation: worktree
  worktree: yes
  after: zero, none
  after_any: true
  at: "16:30"
  delay: 10m
  hold: off
  context: c
  read: a.md
  verify: make test
  max_turns: 30
  max_cost: 2.5
  timeout: 60
  attempts: 2
  priority: high
  question_timeout: 5
  question_default: "no"
"""
    [one] = batch.parse(text, FILE)

    assert one.line == 2
    assert one.values.keys() == KEYS.keys()
    assert (one.text("title"), one.text("prompt"), one.text("model")) == ("One: the first", "do it\nwell", "5.10")
    assert (one.texts("items"), one.texts("after"), one.texts("read")) == (("a", "b: c"), ("zero", "none"), ("a.md",))
    assert (one.values["worktree"], one.values["hold"], one.values["timeout"]) == (True, False, 60)
    assert (one.values["max_turns"], one.values["max_cost"]) == (30, 2.5)
    assert one.lines["items"] == 7


def test_every_key_is_a_field_of_a_request_or_leads_to_one() -> None:
    led_to = {"worktree": "isolation", "at": "not_before", "delay": "not_before", "max_cost": "max_cost_usd"}
    fields = {field.name for field in dataclasses.fields(Request)}
    assert {led_to.get(key, key) for key in KEYS} <= fields
    assert fields - {led_to.get(key, key) for key in KEYS} == {"backend", "preamble", "fallback", "pool"}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [(1, "has no tasks")]),
        ("[]", [(1, "has no tasks")]),
        ("tasks:\n- title: a\n", [(1, "must be a list of tasks")]),
        ("- title: a\n- b\n", [(2, "not a task: `b`")]),
        ("- title: a\n  itms: [x]\n", [(2, "unknown key `itms`; did you mean `items`?")]),
        ("- title: a\n  zzz: [x]\n", [(2, "unknown key `zzz`")]),
        ("- items:\n  - Test: x\n", [(1, "`items` must be a list of texts, not a list with a mapping in it")]),
        ("- items: x\n", [(1, "`items` must be a list of texts, not `x`")]),
        ("- items: [a, '']\n", [(1, "`items` must be a list of texts, not a list with nothing in it")]),
        ("- prompt:\n", [(1, "`prompt` must be text, not nothing")]),
        ("- prompt: {a: b}\n", [(1, "`prompt` must be text, not a mapping")]),
        ("- timeout: 1.5\n", [(1, "`timeout` must be a whole number from 1, not `1.5`")]),
        ("- attempts: 0\n", [(1, "`attempts` must be a whole number from 1, not `0`")]),
        ("- timeout: " + "9" * 50, [(1, "`timeout` must be a whole number from 1, not `" + "9" * 50 + "`")]),
        ("- hold: maybe\n", [(1, "`hold` must be true or false, not `maybe`")]),
        ("- isolation: none\n", [(1, "`isolation` must be one of shared, worktree, not `none`")]),
        ("- priority: 3\n", [(1, "`priority` must be one of high, normal, low, not `3`")]),
        ("- title: a\n  title: b\n", [(2, "title: is written twice, first in line 1")]),
        ("- title: a\n\n  bad: 1\n  hold: 2\n", [(3, "unknown key `bad`"), (4, "`hold` must")]),
        ("- a: 1\n  a: 2\n- b: 1\n", [(1, "unknown key `a`"), (2, "a: is written twice"), (3, "unknown key `b`")]),
        ("- title: [a\n", [(2, "not YAML")]),
        ("- a: &x [1]\n---\n- b: 1\n", [(2, "not YAML")]),
        ("- !!python/object:os.system {}\n", [(1, "has no")]),
    ],
)
def test_what_the_file_breaks_is_told_with_its_line(text: str, problems: list[tuple[int, str]]) -> None:
    if "python" in text:  # a tag means nothing: the mapping is read as what it is
        assert batch.parse(text, FILE)[0].values == {}
        return
    found = refused(text)
    assert [line for line, _ in found] == [line for line, _ in problems]
    assert all(said in told for (_, told), (_, said) in zip(found, problems, strict=True)), found


def test_a_file_that_blows_up_is_refused() -> None:
    bomb = "- context: &a [" + ",".join(["x"] * 100) + "]\n"
    bomb += "  items: &b [" + ",".join(["*a"] * 100) + "]\n  plan: [" + ",".join(["*b"] * 100) + "]\n"
    [(_, text)] = refused(bomb)
    assert "holds more than" in text


def test_all_problems_are_told_at_once_with_the_file_and_the_line_of_each() -> None:
    with pytest.raises(BadBatch) as caught:
        parsed("- tytle: a\n- hold: 1\n")

    assert caught.value.message.splitlines() == [
        "tasks.yaml has 2 problems; nothing was dispatched",
        "  tasks.yaml:1: unknown key `tytle`; did you mean `title`?",
        "  tasks.yaml:2: `hold` must be true or false, not `1`",
    ]
    many = "".join(f"- key{number}: a\n" for number in range(30))
    with pytest.raises(BadBatch, match="and 10 more"):
        parsed(many)


def test_one_problem_is_told_in_one_line_with_its_hint() -> None:
    with pytest.raises(BadBatch) as caught:
        parsed("- title: a\n  itms: [x]\n")

    assert caught.value.message == "tasks.yaml:2: unknown key `itms`; did you mean `items`?"
    assert (caught.value.hint or "").startswith("known are: name, title")


def test_faults_found_while_a_request_is_made_blame_their_key_or_the_task() -> None:
    asked = batch.parse("- title: a\n  model: m\n- title: b\n- title: c\n", FILE)

    def make(one: Asked) -> Request:
        with one.blaming("model"):
            if one.text("model"):
                raise BadInput("unknown model")
        if one.text("title") == "c":
            raise BadInput("nothing to do")
        return Request(items=("x",))

    with pytest.raises(BadBatch) as caught:
        batch.gather(asked, make, FILE)
    assert [(one.line, one.text) for one in caught.value.problems] == [(2, "unknown model"), (4, "nothing to do")]


def test_tasks_are_named_by_name_id_or_title_and_those_waited_for_come_first() -> None:
    text = """\
- {title: Deploy it, items: [x], after: [lint, build-the-api, Test all]}
- {title: Test all, items: [x], after: build-the-api}
- {name: lint, items: [x]}
- {title: Build the API, items: [x], after: [earlier]}
"""
    found = order(text, known=("earlier-one",))

    assert found == {
        "build-the-api": ("earlier-one",),
        "lint": (),
        "test-all": ("build-the-api",),
        "deploy-it": ("lint", "build-the-api", "test-all"),
    }
    ids = list(found)
    assert all(ids.index(other) < ids.index(task) for task, after in found.items() for other in after if other in ids)


def test_the_file_goes_before_the_project_and_taken_ids_get_a_number() -> None:
    assert order("- {title: Build, items: [x]}\n- {title: Go, items: [x], after: build}\n", known=("build",)) == {
        "build-2": (),
        "go": ("build-2",),
    }


def test_a_name_given_twice_counts_once() -> None:
    text = "- {title: Build, items: [x]}\n- {title: Go, items: [x], after: [build, Build, build]}\n"
    assert order(text)["go"] == ("build",)


TWO_CYCLES = """\
- {name: a, items: [x], after: b}
- {name: b, items: [x], after: a}
- {name: c, items: [x], after: d}
- {name: d, items: [x], after: [c, a]}
"""


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- {name: a, items: [x], after: a}", [(1, "`a` waits for itself")]),
        (
            "- {name: a, items: [x], after: c}\n- {name: b, items: [x], after: a}\n- {name: c, items: [x], after: b}",
            [(1, "tasks wait for each other: `a` → `c` → `b` → `a`")],
        ),
        (
            TWO_CYCLES,
            [(1, "tasks wait for each other: `a` → `b` → `a`"), (3, "tasks wait for each other: `c` → `d` → `c`")],
        ),
        ("- {name: a, items: [x], after: [b, c]}", [(1, "`after`: no task 'b'"), (1, "`after`: no task 'c'")]),
        (
            "- {title: T, items: [x]}\n- {title: T, items: [y]}\n- {name: a, items: [x], after: t}",
            [(3, "`after`: `t` is more than one task of this file")],
        ),
        (
            "- {name: a, items: [x]}\n- {name: a, items: [y]}",
            [(2, "the name `a` is given twice, first in line 1")],
        ),
        ("- items: [x]\n  name: A b\n", [(2, "bad task id 'A b': it contains white space")]),
        ("- title: x\n", [(1, "nothing to dispatch")]),
        (
            "- name: a\n  items: [x]\n  after_any: true\n",
            [(3, "`after_any` says how tasks may end, and `after` names none")],
        ),
        ("- {name: a, items: [x], after: o}", [(1, "`after`: ambiguous task id 'o': `old-1`, `old-2`")]),
    ],
)
def test_what_tasks_cannot_wait_for_is_told_with_its_line(text: str, problems: list[tuple[int, str]]) -> None:
    known = ("old-1", "old-2")
    assert refused(text, known=known) == problems


def test_a_chain_of_hundreds_is_put_in_its_order() -> None:
    lines = [f"- {{name: t-{n}, items: [x], after: t-{n + 1}}}\n" for n in range(800)]
    found = order("".join(lines) + "- {name: t-800, items: [x]}\n")
    assert list(found) == [f"t-{n}" for n in range(800, -1, -1)]


# -- written all or none ----------------------------------------------------------------------------------------------


THREE = "- {name: c, items: [x], after: [b]}\n- {name: a, items: [x]}\n- {name: b, items: [x], after: [a]}\n"


def written(project: Path, home: Path, text: str = THREE) -> list[Any]:
    asked = batch.parse(text, FILE)
    return batch.record_locally(asked, requests(asked), find(project), FILE, home=home)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_a_file_becomes_tasks_that_wait_for_each_other(project: Path, own_home: Path) -> None:
    made = written(project, own_home)

    assert [(one.task.id, one.task.after, one.created) for one in made] == [
        ("a", (), True),
        ("b", ("a",), True),
        ("c", ("b",), True),
    ]
    assert [one.home.standing().state for one in made] == [State.QUEUED, State.WAITING, State.WAITING]
    assert made[2].home.standing().reason == "after b"


def test_the_same_file_is_dispatched_once(project: Path, own_home: Path) -> None:
    written(project, own_home)

    assert [one.created for one in written(project, own_home)] == [False] * 3
    more = [(one.task.id, one.created) for one in written(project, own_home, THREE + "- {name: d, items: [x]}\n")]
    assert sorted(more) == [("a", False), ("b", False), ("c", False), ("d", True)]


def test_another_content_under_a_name_leaves_nothing_of_the_file(project: Path, own_home: Path) -> None:
    written(project, own_home, "- {name: b, items: [other]}\n")

    with pytest.raises(BadBatch, match="yaml:3: task `b` was dispatched before with other content"):
        written(project, own_home)
    assert taskdir.known_names(project) == ["b"]


def test_a_task_that_cannot_be_written_leaves_nothing_of_the_file(project: Path, own_home: Path) -> None:
    tasks = project / ".dispatch/tasks"
    tasks.mkdir(parents=True)
    (tasks / "b").mkdir()  # somebody else's: reserved, and in the way

    with pytest.raises(BadBatch, match="is there, and is no task"):
        written(project, own_home)
    assert taskdir.known_names(project) == ["b"]


def test_the_attempts_of_a_removed_task_are_in_nobodys_way(project: Path, own_home: Path) -> None:
    TaskDir(project, "b").attempt_folder(1)

    written(project, own_home)

    assert TaskDir(project, "b").exists()
    assert len([name for name in taskdir.known_names(project) if name.startswith("b.rejected-")]) == 1


def test_an_id_that_is_taken_at_the_last_moment_leaves_nothing(
    project: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(project, own_home, "- {name: old, items: [x]}\n")
    asked = batch.parse("- {title: One, items: [x]}\n- {title: Two, items: [x]}\n", FILE)
    nodes = batch.arrange(asked, requests(asked), FILE, names=(), known=())
    drafts = batch.draft(nodes, project_id="p")
    TaskDir(project, "two").path.mkdir()

    with pytest.raises(FileExistsError):
        taskdir.create_all(project, [(one.task, one.plan, producer.first_entry(one)) for one in drafts])

    assert taskdir.known_names(project) == ["old", "two"]
    assert [one.task.id for one in written(project, own_home, "- {title: Two, items: [x]}\n")] == ["two-2"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow beyond 64 KiB meanwhile, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_is_full_at_the_last_task_leaves_nothing_of_the_file(project: Path, own_home: Path) -> None:
    long = "- {name: d, title: T, after: c, items: [" + ", ".join(["word " * 50] * 400) + "]}\n"

    with pytest.raises(BadInput, match="cannot write the task") as caught:
        written(project, own_home, THREE + long)

    assert "nothing was kept" in (caught.value.hint or "")
    assert taskdir.known_names(project) == []


def test_a_link_in_the_place_of_the_folder_is_not_followed(project: Path, own_home: Path) -> None:
    (project / ".dispatch").mkdir()
    (project / ".dispatch/tasks").symlink_to(project / "elsewhere")
    (project / "elsewhere").mkdir()

    with pytest.raises(UntrustedPath):
        written(project, own_home)
    assert list((project / "elsewhere").iterdir()) == []
