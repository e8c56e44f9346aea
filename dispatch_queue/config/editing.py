"""Carries out edits of `config.yaml`. What an edit is not about stays as it is, to the byte; see `splice`."""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatch_queue.config import document, rewrite, splice
from dispatch_queue.config.clis import CLIS
from dispatch_queue.config.document import Place, Problem, seen
from dispatch_queue.config.edit import AddAgent, AddAlias, AddModel, Edit, Migrate, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.emit import Value
from dispatch_queue.config.firstrun import propose
from dispatch_queue.config.grouping import add_model
from dispatch_queue.config.load import MAX_CONFIG_BYTES, decoded, read_bytes, shown
from dispatch_queue.config.machine import Machine
from dispatch_queue.config.migrate import migrated
from dispatch_queue.config.parse import parse
from dispatch_queue.config.rules import (
    ALIAS_NAME,
    MODEL_ID,
    MODEL_ID_HINT,
    NAME_HINT,
    QUEUE_WORD,
    adding,
    instead,
    nearest,
)
from dispatch_queue.config.schema import KNOWN_BACKENDS, SHELL
from dispatch_queue.errors import BadConfig, BadInput


def carry_out(home: Path, edits: Sequence[Edit], path: str | None) -> list[str]:
    """See `edit.apply`."""
    machine = Machine(path)
    done = None
    while done is None:  # until nobody else changed the file meanwhile
        data = read_bytes(home)
        done = _to_new_file(home, edits, machine) if data is None else _to_file(home, data, edits, machine)
    return done


def rehearse(home: Path, edits: Sequence[Edit], path: str | None) -> None:
    """See `edit.check`."""
    machine, data = Machine(path), read_bytes(home)
    text = (propose(machine).text or "") if data is None else decoded(home, data)
    edited(text, edits, machine, shown(home))


def _to_new_file(home: Path, edits: Sequence[Edit], machine: Machine) -> list[str] | None:
    """Edit what the first run would write; None where there is a file by now."""
    proposal = propose(machine)
    text, said = edited(proposal.text or "", edits, machine, shown(home))
    return [*proposal.said, f"Wrote {shown(home)}.", *said] if rewrite.create(home, text.encode()) else None


def _to_file(home: Path, data: bytes, edits: Sequence[Edit], machine: Machine) -> list[str] | None:
    """Edit the file, which held `data`; None where it does no longer."""
    before = decoded(home, data)
    text, said = edited(before, edits, machine, shown(home))
    if text == before:
        return said
    after = text.encode("utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8")
    if len(after) > MAX_CONFIG_BYTES:
        raise BadInput(f"{shown(home)} would be larger than {MAX_CONFIG_BYTES // 1024} KiB", hint="remove some of it")
    done = rewrite.replace(home, data, after, keep=any(isinstance(edit, Migrate) for edit in edits))
    if done is None:
        return None
    return [*said, *([f"What the file was is kept as {done.kept}."] if done.kept else [])]


def edited(text: str, edits: Sequence[Edit], machine: Machine, shown: str) -> tuple[str, list[str]]:
    """`text` after the edits, and what was done, as sentences; `shown` is the file's name for messages.

    Raises BadConfig, also where the file has errors that the edits do not mend, and BadInput.
    """
    before = parse(text, shown).problems
    if document.read(text).problems or (before and any(isinstance(edit, Migrate) for edit in edits)):
        raise _faulty(before, shown)
    draft = _Draft(text, machine, shown)
    try:
        for edit in edits:
            draft.make(edit)
    except splice.Unchangeable:
        if before:
            raise _faulty(before, shown) from None
        raise
    draft.check_removed()
    draft.check_format(text)
    known = {problem.text for problem in before}
    after = parse(draft.text, shown).problems
    if new := [problem for problem in after if problem.text not in known]:
        raise BadInput(new[0].text, hint=new[0].hint)
    if after and len(after) == len(before):
        raise _faulty(after, shown)
    left = [f"Left to mend, see dispatch config check: {after[0].text}"] if after else []
    return draft.text, [*draft.said, *left]


def _faulty(problems: Sequence[Problem], shown: str) -> BadConfig:
    first, *others = problems
    more = f"; {len(others)} more: dispatch config check" if others else ""
    return BadConfig(
        f"{shown}:{first.line}: {first.text}",
        hint=f"mend that first, nothing was changed: {first.hint}{more}",
    )


_OF_NEW_FORMAT = ("backends", "models", "aliases")


class _Draft:
    """The file as far as it is edited. `said` are sentences for the user."""

    def __init__(self, text: str, machine: Machine, shown: str) -> None:
        self.text = text
        self.machine = machine
        self.shown = shown  # the file's name for messages
        self.said: list[str] = []
        self._removed: list[str] = []
        self._read: str | None = None  # the text that `_meaning` is of
        self._meaning: Mapping[str, Any] = {}

    def make(self, edit: Edit) -> None:
        match edit:
            case AddModel(model, backend):
                self._add_model(model, backend)
            case AddAgent(name, command):
                self._add_agent(name, command.strip())
            case RemoveModel(model):
                self._remove_model(model)
            case SetDefault(name):
                self._set_default(name)
            case AddAlias(name, model, prompt):
                self._add_alias(name, model, prompt.strip())
            case RemoveAlias(name):
                self._remove_alias(name)
            case Migrate():
                self.text, said = migrated(self.text, self.machine)
                self.said += said

    def check_removed(self) -> None:
        """Refuse where something still names what was removed. Raises BadInput."""
        plain = self._plain()
        left = [*self._names("models"), *self._names("aliases")]
        for name in self._removed:
            if name in left:
                continue
            if plain.get("default") == name:
                other = next(iter(left), "NAME")
                raise BadInput(f"`{name}` is the default", hint=f"first take another: dispatch config default {other}")
            for alias, entry in self._names("aliases").items():
                if isinstance(entry, dict) and entry.get("model") == name:
                    hint = (
                        f"first: dispatch config alias {alias} OTHER-MODEL, or dispatch config alias {alias} --remove"
                    )
                    raise BadInput(f"`{name}` is what the alias `{alias}` stands for", hint=hint)
            for section in ("fallback", "limits"):
                if name in document.words_in(plain.get(section)):
                    raise BadInput(
                        f"`{name}` is named under `{section}:`", hint=f"first take it out there, in {self.shown}"
                    )

    def check_format(self, before: str) -> None:
        """Refuse to make a file of both formats, of which a reader of the old one sees nothing. Raises BadInput."""
        was, now = document.read(before).plain or {}, self._plain()
        if "agents" in now and [name for name in _OF_NEW_FORMAT if name in now and name not in was]:
            hint = "dispatch config migrate"
            raise BadInput(f"{self.shown} has the old format, `agents:`, which has no place for that", hint=hint)

    def _add_model(self, given: str, backend: str | None) -> None:
        model = _known(given, self._models()) or given
        if not MODEL_ID.fullmatch(model):
            raise BadInput(f"not a model id: {seen(model)}", hint=MODEL_ID_HINT)
        if alias := _known(model, self._names("aliases")):
            raise BadInput(f"`{alias}` is an alias", hint=f"first: dispatch config alias {alias} --remove")
        if model == SHELL:
            raise BadInput(f"`{SHELL}` is built in", hint="dispatch submit -m shell -i 'Test: `make test`'")
        entry = self._names("models").get(model)
        if model in self._models() and (
            backend is None or (isinstance(entry, dict) and entry.get("backend") == backend)
        ):
            self.said.append(f"Model `{model}` is there already.")
            return
        if backend is None:
            model, backend = self.machine.offered(model)
        self._need_backend(backend)
        if model in self._names("models"):
            self._put(("models", model, "backend"), backend)
            self.said.append(f"Model `{model}` now runs with {backend}.")
            return
        self.text = add_model(self.text, model, backend)
        self.said.append(f"Added model `{model}`, which runs with {backend}.")

    def _add_agent(self, given: str, command: str) -> None:
        name = _known(given, self._names("backends")) or given
        if not QUEUE_WORD.fullmatch(name):
            raise BadInput(f"not a name for an agent: {seen(name)}", hint=NAME_HINT)
        model = _known(name, self._models())
        entry = self._names("models").get(model or "")
        if _known(name, self._names("aliases")) or (
            model and not (isinstance(entry, dict) and entry == {"backend": name})
        ):
            raise BadInput(f"there is {seen(name)} already", hint="give the agent another name; dispatch config show")
        known = _known(name, KNOWN_BACKENDS)
        if known or (not model and {"backend": name} in self._names("models").values()):
            hint = f"give the agent another name, or edit `backends.{known or name}.command` in {self.shown}"
            raise BadInput(f"`{known or name}` is the backend of other models", hint=hint)
        present = self._names("backends").get(name)
        if model and isinstance(present, dict) and present.get("command") == command:
            self.said.append(f"Agent `{name}` is there already.")
            return
        if isinstance(present, dict):
            self._put(("backends", name, "command"), command)
        else:
            self._put(("backends", name), {"command": command})
        if not model:
            self.text = add_model(self.text, name, name)
        self.said.append(f"{'Changed' if present else 'Added'} agent `{name}`, which runs: {command}")

    def _need_backend(self, backend: str) -> None:
        """Put the section of a known CLI into the file. Raises BadInput for a backend that nobody knows."""
        present = [*self._names("backends"), *self._names("agents")]
        if backend in present:
            return
        for cli in CLIS:
            if cli.backend == backend:
                self._put(("backends", backend), {"command": cli.command})
                self.said.append(f"Added backend `{backend}`: {cli.command}")
                return
        if backend not in KNOWN_BACKENDS:
            known = [*present, *KNOWN_BACKENDS]
            hint = instead(backend, known, f"write it under `backends:` first, in {self.shown}")
            raise BadInput(f"unknown backend {seen(backend)}", hint=hint)

    def _remove_model(self, given: str) -> None:
        model = _known(given, self._names("models"))
        if model is None:
            raise self._not_there(given, "model", self._names("models"))
        self.text = splice.drop(self.text, ("models", model))
        self._removed.append(model)
        self.said.append(f"Removed model `{model}`.")

    def _remove_alias(self, given: str) -> None:
        alias = _known(given, self._names("aliases"))
        if alias is None:
            raise self._not_there(given, "alias", self._names("aliases"))
        self.text = splice.drop(self.text, ("aliases", alias))
        self._removed.append(alias)
        self.said.append(f"Removed alias `{alias}`.")

    def _not_there(self, given: str, kind: str, known: Iterable[str]) -> BadInput:
        hint = "dispatch config show"
        if given == SHELL:
            return BadInput(f"`{SHELL}` is built in and cannot be removed", hint=hint)
        if _known(given, self._names("agents")):
            return BadInput(f"{seen(given)} is an agent of the old format", hint="dispatch config migrate")
        if kind == "model" and (alias := _known(given, self._names("aliases"))):
            hint = f"it is an alias: dispatch config alias {alias} --remove"
        elif kind == "alias" and (model := _known(given, self._names("models"))):
            hint = f"it is a model: dispatch config remove-model {model}"
        elif near := nearest(given, known):
            hint = f"did you mean `{near}`? dispatch config show"
        return BadInput(f"there is no {kind} {seen(given)}", hint=hint)

    def _set_default(self, given: str) -> None:
        known = [*self._models(), *self._names("aliases")]
        name = _known(given, known)
        if name is None:
            raise _unknown_model(given, known)
        before = self._plain().get("default")
        if before == name:
            self.said.append(f"`{name}` is the default already.")
            return
        self._put(("default",), name)
        self.said.append(f"The default is now `{name}`{f' (before: `{before}`)' if before else ''}.")

    def _add_alias(self, given: str, given_model: str, prompt: str) -> None:
        aliases = self._names("aliases")
        name = _known(given, aliases) or given
        if not ALIAS_NAME.fullmatch(name):
            raise BadInput(f"not a name for an alias: {seen(name)}", hint=NAME_HINT)
        if clash := _known(name, self._models()):
            raise BadInput(f"`{clash}` is the name of a model", hint="give the alias another name")
        if any(not (letter.isprintable() or letter in "\n\t") for letter in prompt):
            raise BadInput("the prompt has control characters in it", hint="write it as plain text")
        model = self._target(given_model)
        entry = aliases.get(name)
        if isinstance(entry, dict):
            for key, value in (("model", model), ("prompt", prompt)):
                if value and entry.get(key) != value:
                    self._put(("aliases", name, key), value)
        else:
            self._put(("aliases", name), {"model": model, **({"prompt": prompt} if prompt else {})})
        done = "Changed" if isinstance(entry, dict) else "Added"
        self.said.append(
            f"{done} alias `{name}`, which stands for `{model}`{' with a prompt of its own' * bool(prompt)}."
        )

    def _target(self, given: str) -> str:
        """The model that an alias is to stand for. Raises BadInput."""
        aliases = self._names("aliases")
        if model := _known(given, self._models()):
            return model
        if alias := _known(given, aliases):
            entry = aliases[alias]
            target = entry.get("model") if isinstance(entry, dict) else None
            raise BadInput(f"`{alias}` is an alias, not a model", hint=f"give its model: `{target}`")
        raise _unknown_model(given, self._models())

    def _models(self) -> list[str]:
        return [*self._names("models"), *self._names("agents"), SHELL]

    def _names(self, section: str) -> Mapping[str, Any]:
        """The entries of a section; none where that is not what it holds."""
        entries = self._plain().get(section)
        return entries if isinstance(entries, dict) else {}

    def _plain(self) -> Mapping[str, Any]:
        if self._read != self.text:
            plain = document.read(self.text).plain
            self._read, self._meaning = self.text, plain if isinstance(plain, dict) else {}
        return self._meaning

    def _put(self, place: Place, value: Value) -> None:
        self.text = splice.put(self.text, place, value)


def _known(given: str, names: Iterable[str]) -> str | None:
    """The one of `names` that `given` is, whatever its case."""
    names = list(names)
    return given if given in names else next((each for each in names if each.casefold() == given.casefold()), None)


def _unknown_model(given: str, known: Iterable[str]) -> BadInput:
    return BadInput(f"unknown model {seen(given)}", hint=instead(given, known, adding(given)))
