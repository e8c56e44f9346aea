"""Secrets of the environment stay out of all that is written, shown or sent: masked by value where text comes in."""

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:[A-Z0-9]*KEY|TOKEN|[A-Z0-9]*SECRET|PASS|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH|COOKIE|DSN)(?:_|$)"
)
SHORTEST: Final = 8  # characters; a shorter value is found in ordinary words


class Masker:
    """Knows the secrets of an environment: values of variables named like one, and passwords in addresses."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        found: dict[bytes, bytes] = {}
        for name, value in environ.items():
            for secret in _secrets(name, value):
                for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
                    found[form.encode(errors="surrogateescape")] = f"[{name}]".encode(errors="replace")
        self._secrets = sorted(found.items(), key=lambda pair: -len(pair[0]))
        self._longest = max(map(len, found), default=0)

    def mask(self, data: bytes) -> bytes:
        """`data` with the name of its variable in the place of each secret."""
        for secret, name in self._secrets:
            if secret in data:
                data = data.replace(secret, name)
        return data

    def text(self, text: str) -> str:
        return self.mask(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def whole(self, data: bytes) -> int:
        """How many bytes of `data` can be masked now: after them the beginning of a secret may stand, cut off."""
        start = max(0, len(data) - self._longest + 1)
        for cut in range(start, len(data)):
            if any(secret.startswith(data[cut:]) for secret, _ in self._secrets if len(secret) > len(data) - cut):
                return self._before_secret(data, cut)
        return len(data)

    def _before_secret(self, data: bytes, cut: int) -> int:
        """`cut`, or the start of a secret that it would cut in two."""
        for secret, _ in self._secrets:
            at = data.find(secret, max(0, cut - len(secret) + 1), cut + len(secret) - 1)
            if 0 <= at < cut:
                return self._before_secret(data, at)
        return cut


NO_SECRETS: Final = Masker({})


class MaskedStream:
    """Masks what comes in pieces, also a secret that is cut in two: what may be one's beginning waits for the rest."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be written now."""
        data = self._held + data
        whole = self._masker.whole(data)
        self._held = data[whole:]
        return self._masker.mask(data[:whole])

    def rest(self) -> bytes:
        """What was waiting for more."""
        held, self._held = self._held, b""
        return self._masker.mask(held)


def _secrets(name: str, value: str) -> list[str]:
    """The secrets in a variable."""
    found = []
    if _SECRET_NAME.search(name.upper()) and not value.startswith(("/", "~/", "./")):
        found.append(value)
    if "://" in value and "@" in value:
        try:
            found.append(urlsplit(value).password or "")
        except ValueError:
            found.append(value)
    return [secret for secret in found if len(secret) >= SHORTEST]
