"""The words an agent gets: the plan's rules, what was asked, and on a later attempt what happened before."""

from collections.abc import Sequence

from dispatch_queue import taskdir
from dispatch_queue.plan import Plan
from dispatch_queue.record import Task

_RULES = """\
You are a background worker. Your task is described by the checklist in {folder}/plan.md. Read it now.

How to work:
- Go through the items from top to bottom. Do the work of an item, then edit plan.md: change its `[ ]` to `[x]`, and add
  a short note in an indented line under it when something is worth knowing. Then take the next item. Keep every other
  byte of the file as it is. Read plan.md again before each item: lines that begin with `> **Note from dispatcher:**`
  are added while you work, and they count.
- If you cannot go on without an answer, run `dispatch-ask "your question"` (in full, should your shell not know it:
  `{ask}`). It waits, and prints the answer. Allow it at least {wait} seconds, and if your shell hands back before it
  ended, wait on for it. If it exits with status 75 nobody answered in time: write what you know and what you were about
  to do to {folder}/context.md, mark the item `[?]`, put the question in an indented line under it, and stop.
  (By hand it works too: write the question to {folder}/ipc/<NNN>.question, numbered from 001, by a temporary file and a
  rename; poll for <NNN>.answer; when it is there, create <NNN>.done and continue.)
- If an item cannot be done, mark it `[!]`, describe the error in an indented line under it, and stop.
- When all items are checked, create the empty file {folder}/ipc/.done and stop. The task counts as done only then.
- Write only to plan.md, context.md, output.md and ipc/ inside {folder}. An item that asks for a report or a summary
  without naming a file means {folder}/output.md.
- Nobody sees your terminal. Never wait for input there.
"""

_SELF_PLAN = """\
The plan has a single item so far. Before anything else replace that item in plan.md by concrete steps sized to the
work: one step for a simple change, five to eight for an investigation, each something that can be verified. If the
work results in findings or a report, let the last step write {folder}/output.md. Then work through your steps.
"""


def build(
    task: Task,
    plan: Plan,
    *,
    attempt: int,
    ask: str,
    branch: str | None,
    exchanges: Sequence[tuple[str, str]],
    waiting: Sequence[str] = (),
    has_context: bool,
    check: str = "",
) -> str:
    """The prompt of an attempt.

    `ask` is where `dispatch-ask` stands, for a shell whose profile sets PATH anew;
    `exchanges` are the questions that were answered so far with their answers, `waiting` those that still wait;
    `check` is what the failed check said.
    """
    folder = f"{taskdir.TASKS}/{task.id}"
    parts = []
    if task.preamble:
        parts.append(task.preamble.strip() + "\n")
    parts.append(_RULES.format(folder=folder, ask=ask, wait=task.question_timeout + 30))
    if task.self_planned and len(plan.items) == 1 and plan.done == 0:
        parts.append(_SELF_PLAN.format(folder=folder))
    if attempt > 1:
        parts.append(_again(plan, attempt=attempt, has_context=has_context, folder=folder, checked=not check))
    if check:
        parts.append(
            f"Every item was checked, but then the check `{task.verify}` failed. Set right what it found, then create "
            f"{folder}/ipc/.done again. It said:\n\n{check}\n"
        )
    if exchanges:
        said = "\n".join(
            f"- Question: {_quoted(question)}\n  Answer: {_quoted(answer)}" for question, answer in exchanges
        )
        parts.append(f"Questions that were answered before:\n{said}\n")
    if waiting:
        open_ones = "\n".join(f"- {_quoted(question)}" for question in waiting)
        parts.append(
            f"Asked before, and not answered yet:\n{open_ones}\n"
            "If you cannot go on without the answer, ask again in the same words.\n"
        )
    context = _context(task, branch)
    if context:
        parts.append(f"Context:\n{context}\n")
    parts.append("Begin with the first unchecked item.\n" if attempt > 1 else "Begin.\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return text.strip().replace("\n", "\n    ")


def _again(plan: Plan, *, attempt: int, has_context: bool, folder: str, checked: bool) -> str:
    lines = [
        f"This is attempt {attempt}: an earlier one ended before the plan was done.",
        f"{plan.done} of {len(plan.items)} items are checked. Their work is in this directory; don't do it again.",
    ]
    if has_context:
        lines.append(f"The earlier attempt left its notes in {folder}/context.md. Read them first.")
    if plan.complete and checked:
        lines.append(
            f"Every item is checked, but {folder}/ipc/.done is missing: make sure of the work, then create it."
        )
    return "\n".join(lines) + "\n"


def _context(task: Task, branch: str | None) -> str:
    lines = []
    if task.prompt:
        lines.append(f"What the user asked for, in their words:\n{task.prompt.strip()}\n")
    if task.context:
        lines.append(task.context.strip())
    if task.read:
        lines.append("Read these first:\n" + "\n".join(f"- {name}" for name in task.read))
    if branch:
        lines.append(
            f"You work in a git worktree of your own, on branch {branch}. Commit as you see fit; do not switch "
            "branches. What you leave uncommitted is committed for you at the end."
        )
    return "\n".join(lines)
