"""What `dispatch doctor` finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` is the command for what is not well; a finding without one is well.

    `facts` are what of it is told as data too.
    """

    what: str
    seen: str
    fix: str = ""
    fatal: bool = True
    facts: Mapping[str, str | bool | None] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For `--json`."""
        return {"what": self.what, "seen": self.seen, "fix": self.fix or None, "ok": not self.fix, **self.facts}
