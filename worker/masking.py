"""Secrets of the environment stay out of all that is written, shown or sent: masked by value where text comes in."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final
from urllib.parse import unquote, urlsplit

from worker.spelling import Plain, Spelling, before_cut_escape

# A word of a variable's name that tells of a secret: at a word's end, as in PGPASSWORD, where no ordinary word ends so.
_SECRET_WORD: Final = re.compile(
    r"(?!(?:MON|DON|TUR|WHIS|HOC|JOC|HOT)KEYS?$|(?:ASK|BY|COM|SUR|TRES)PASS$|OLDPWD$)"
    r"(?:[A-Z0-9]*(?:KEY|TOKEN|SECRET|PASS|PASSWORD|PASSWD|PWD|PASSPHRASE|CREDENTIAL|COOKIE)S?|O?AUTH|DSN|PAT|JWT)\d*"
)
# Names that end so tell where a secret is kept, or of what kind it is.
_ABOUT: Final = ("DIR", "FILE", "FOLDER", "HOME", "METHOD", "MODE", "NAME", "PATH", "SOCK", "SOCKET", "TYPE")
_BORDER: Final = "-----"  # of a PEM block: the same in all of them
SHORTEST: Final = 8  # characters; a shorter value is found in ordinary words

Hit = tuple[int, int, bytes]  # where a secret begins and ends, and what takes its place


class Masker:
    """Knows the secrets of an environment: values of variables named like one, and passwords in addresses.

    It finds them as they are, and spelled as any program's JSON, also JSON in JSON, may spell them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        found = {secret: name for name, value in environ.items() for secret in _secrets(name, value)}
        self._spelling = Spelling({character for secret in found for character in secret})
        named = {
            bytes(self._spelling.plain(secret.encode(errors="surrogateescape")).data): f"[{name}]".encode(
                errors="replace"
            )
            for secret, name in found.items()
        }
        self._secrets = sorted(named.items(), key=lambda pair: -len(pair[0]))

    def mask(self, data: bytes) -> bytes:
        """`data` with the name of its variable in the place of each secret."""
        plain = self._spelling.plain(data)
        return _replaced(data, plain, self._hits(plain))

    def text(self, text: str) -> str:
        return self.mask(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def unlike(self, given: Set[bytes], data: bytes, bare: Callable[[bytes], bytes]) -> bytes:
        """`data`, masked but for the lines that are `given`, when they are `bare`."""
        runs = itertools.groupby(data.splitlines(keepends=True), key=lambda line: bare(line) in given)
        return b"".join(b"".join(lines) if known else self.mask(b"".join(lines)) for known, lines in runs)

    def begin(self, data: bytes) -> tuple[bytes, bytes]:
        """What of `data` can be masked now, masked, and the rest: a secret may begin there that is cut off."""
        if not self._secrets:
            return data, b""
        plain = self._spelling.plain(data[: before_cut_escape(data)])
        cut = min(_beginning(secret, plain.data) for secret, _ in self._secrets)
        hits = self._hits(plain)
        cut = next((start for start, end, _ in hits if start < cut < end), cut)
        at = plain.place(cut)
        return _replaced(data[:at], plain, [hit for hit in hits if hit[1] <= cut]), data[at:]

    def _hits(self, plain: Plain) -> list[Hit]:
        """The secrets in `plain`, of which they are taken out; of two that overlap the longer."""
        hits = []
        for secret, name in self._secrets:
            at = plain.data.find(secret)
            while at >= 0:
                end = at + len(secret)
                hits.append((at, end, name))
                plain.data[at:end] = bytes(len(secret))
                at = plain.data.find(secret, end)
        return sorted(hits)


NO_SECRETS: Final = Masker({})


class MaskedStream:
    """Masks what comes in pieces, also a secret that is cut in two: what may be one's beginning waits for the rest."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be written now."""
        masked, self._held = self._masker.begin(self._held + data)
        return masked

    def rest(self) -> bytes:
        """What was waiting for more."""
        held, self._held = self._held, b""
        return self._masker.mask(held)


def _replaced(data: bytes, plain: Plain, hits: Iterable[Hit]) -> bytes:
    """`data` with names in the place of `hits` in what it is as `plain`."""
    parts, done = [], 0
    for start, end, name in hits:
        parts += [data[done : plain.place(start)], name]
        done = plain.place(end)
    return b"".join([*parts, data[done:]])


def _beginning(secret: bytes, data: bytearray) -> int:
    """Where at the end of `data` a secret begins that is cut off; the length of `data` where none does."""
    at = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
    while at >= 0 and not secret.startswith(data[at:]):
        at = data.find(secret[:1], at + 1)
    return at if at >= 0 else len(data)


def _secrets(name: str, value: str) -> list[str]:
    """The secrets in a variable: one of many lines, a private key as a rule, is one as a whole and in each line."""
    found = []
    if _is_secret(name, value):
        lines = [line.strip() for line in value.replace("\\n", "\n").splitlines()]
        found += [value, *(line for line in lines if not line.startswith(_BORDER))]
    if "://" in value and "@" in value:
        try:
            password = urlsplit(value).password or ""
        except ValueError:
            password = value
        found += [password, unquote(password)]
    # A backslash at the end is not to be told from those of an escape after it.
    stems = [stem if len(stem := secret.rstrip("\\")) >= SHORTEST else secret for secret in found]
    return [stem for stem in stems if len(stem) >= SHORTEST]


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable is named like a secret, and does not tell of one, or a number of tokens, instead."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper().replace("-", "_").split("_")
    if name == "PWD" or words[-1] in _ABOUT or not any(map(_SECRET_WORD.fullmatch, words)):
        return False
    if value.startswith(("~/", "./", "../")) or (value.startswith("/") and os.path.lexists(value)):
        return False
    return not (words[-1] == "TOKENS" and value.isdigit())
