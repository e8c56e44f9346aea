"""Which agent CLIs and models there are on this machine."""

import functools
import os
from pathlib import Path

from dispatch_queue.config.choose import backend_for
from dispatch_queue.config.clis import CLAUDE, CLIS, CODEX, CURSOR
from dispatch_queue.config.document import seen
from dispatch_queue.config.grouping import grouped
from dispatch_queue.config.listing import Listing, list_codex_models, list_models
from dispatch_queue.config.rules import adding, nearest
from dispatch_queue.errors import BadInput

CLAUDE_MODELS = ("opus", "sonnet", "haiku")  # names that stay while versions come and go
CODEX_MODELS = ("gpt-5.3-codex", "gpt-5.3-codex-spark", "gpt-5.2")  # for one that cannot list its own


class NotAvailable(BadInput):
    """No CLI of this machine is known to run `model`. `failure`: why Cursor's list could not be read, if so."""

    def __init__(self, model: str, *, near: str | None, failure: str | None) -> None:
        self.model = model
        meant = f"did you mean `{near}`? If not: " if near else ""
        why = f" (`agent models` listed nothing: {failure})" if failure else ""
        super().__init__(
            f"Model {seen(model)} isn't available{why}.",
            hint=f"{meant}run `agent models` to see what's available, or check your Cursor/Claude/OpenAI subscription;"
            f" a CLI that has it all the same: {adding(model)} --backend NAME",
        )


class Machine:
    """What is on this machine; it is looked at when it is first asked for. `path`: as PATH, which is the default."""

    def __init__(self, path: str | None = None) -> None:
        self._path = os.environ.get("PATH", os.defpath) if path is None else path

    @functools.cached_property
    def programs(self) -> dict[str, str]:
        """The programs of the CLIs that are found, by back end."""
        folders = [Path(folder) for folder in self._path.split(os.pathsep) if folder]
        found = {}
        for cli in CLIS:
            for folder in folders:
                program = folder / cli.program
                if program.is_file() and os.access(program, os.X_OK):
                    found[cli.backend] = str(program)
                    break
        return found

    @functools.cached_property
    def listing(self) -> Listing:
        """What Cursor's CLI lists, where it is found; this takes some seconds at most."""
        program = self.programs.get(CURSOR.backend)
        return list_models(program) if program else Listing([], None, None)

    @functools.cached_property
    def catalog(self) -> Listing:
        """What codex lists, where it is found."""
        program = self.programs.get(CODEX.backend)
        return list_codex_models(program) if program else Listing([], None, None)

    @property
    def codex_models(self) -> list[str]:
        """The models of codex, where it is found: those it lists, else the usual ones."""
        return self.catalog.models or (list(CODEX_MODELS) if CODEX.backend in self.programs else [])

    def backends(self) -> list[str]:
        """The back ends that can be used."""
        return [name for name in self.programs if self.runs(name)]

    def runs(self, backend: str) -> bool:
        """Whether the CLI of that name is there; Cursor's must list models too."""
        return backend in self.programs and (backend != CURSOR.backend or bool(self.listing.models))

    def models(self) -> dict[str, str]:
        """Every model of the CLIs that can be used, with its back end, grouped by provider."""
        claude = CLAUDE_MODELS if CLAUDE.backend in self.programs else ()
        ids = dict.fromkeys([*claude, *self.codex_models, *self.listing.models])
        return grouped({model: self._backend(model) for model in ids})

    def offered(self, model: str) -> tuple[str, str]:
        """The id and the back end for a model that somebody named. Raises NotAvailable.

        claude runs every version of its families. Of OpenAI's models the name is enough for codex only where
        Cursor's CLI, which lists them too, is not there to tell.
        """
        own = self._own(model)
        known = CLAUDE_MODELS if own == CLAUDE.backend else [*self.codex_models, *self.listing.models]
        exact = next((each for each in known if each.casefold() == model.casefold()), None)
        if exact is not None:
            return exact, self._backend(exact)
        if own == CLAUDE.backend or (own is not None and not self.listing.models):
            return model, own
        raise NotAvailable(model, near=nearest(model, self.models()), failure=self.listing.failure)

    def _own(self, model: str) -> str | None:
        """The CLI of the maker of a model, if it is there."""
        return backend_for(model, [name for name in self.programs if name != CURSOR.backend])

    def _backend(self, listed: str) -> str:
        """The back end for a model that some CLI lists."""
        own = self._own(listed)
        return own or (CODEX.backend if listed in self.codex_models else CURSOR.backend)
