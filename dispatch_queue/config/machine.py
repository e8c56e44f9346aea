"""Which agent CLIs and models there are on this machine."""

import functools
import os
from pathlib import Path

from dispatch_queue.config.choose import backend_for
from dispatch_queue.config.clis import CLIS, CURSOR
from dispatch_queue.config.document import seen
from dispatch_queue.config.grouping import grouped
from dispatch_queue.config.listing import Listing, list_models
from dispatch_queue.config.rules import adding, nearest
from dispatch_queue.errors import BadInput

CLAUDE_MODELS = ("opus", "sonnet", "haiku")  # names that stay while versions come and go
CODEX_MODELS = ("gpt-5.3-codex", "gpt-5.3-codex-spark", "gpt-5.2")  # codex cannot list its own


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

    def backends(self) -> list[str]:
        """The back ends that can be used: without Cursor where it lists no models."""
        return [name for name in self.programs if name != CURSOR.backend or self.listing.models]

    def models(self) -> dict[str, str]:
        """Every model of the CLIs that can be used, with its back end, grouped by provider."""
        usable = self.backends()
        ids = [
            *(CLAUDE_MODELS if "claude" in usable else ()),
            *(CODEX_MODELS if "codex" in usable else ()),
            *self.listing.models,
        ]
        backends = {model: backend for model in dict.fromkeys(ids) if (backend := backend_for(model, usable))}
        return grouped(backends)

    def offered(self, model: str) -> tuple[str, str]:
        """The id and the back end for a model that somebody named. Raises NotAvailable.

        A CLI that is known to run models of that name needs no list, as it has no full one.
        """
        own = backend_for(model, [name for name in self.programs if name != CURSOR.backend])
        known = self.listing.models if own is None else [*CLAUDE_MODELS, *CODEX_MODELS]
        exact = next((each for each in known if each.casefold() == model.casefold()), None)
        if own is None and exact is None:
            raise NotAvailable(model, near=nearest(model, self.models()), failure=self.listing.failure)
        return exact or model, own or CURSOR.backend
