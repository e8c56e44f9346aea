r"""Characters as JSON may spell them: `/` as `\/`, `+` as `\u002b`; with more backslashes in JSON inside JSON."""

import bisect
import re
from collections.abc import Iterable, Set
from typing import Final

_SHORT: Final = {'"': '"', "/": "/", "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_BACKSLASHES: Final = r"\\\\{0,15}"  # before one escape
_CUT: Final = re.compile(rb"(?:\\\\{0,15}(?:u[0-9a-fA-F]{0,4})?){1,2}\Z")
_LONGEST: Final = 2 * (16 + 5)  # bytes of one; two stand for a character beyond U+FFFF


class Plain:
    """Data with the character in the place of each escape, and the way back from there."""

    def __init__(self, data: bytes, escapes: Iterable[tuple[int, int, bytes]]) -> None:
        self.data = bytearray()
        self._marks = [(0, 0)]  # where in here what follows begins, and where it did
        done = 0
        for start, end, character in escapes:
            self.data += data[done:start]
            self._marks.append((len(self.data), start))
            self.data += character
            self._marks.append((len(self.data), end))
            done = end
        self.data += data[done:]

    def place(self, at: int) -> int:
        """Where in the data as it was the byte `at` of this stands."""
        here, there = self._marks[bisect.bisect(self._marks, at, key=lambda mark: mark[0]) - 1]
        return there + at - here


class Spelling:
    """The escapes of JSON that stand for some characters; with more backslashes those of JSON in JSON."""

    def __init__(self, characters: Set[str]) -> None:
        self._meant: dict[bytes, bytes] = {}
        short, codes = "", []
        for character in sorted(characters):
            meant = character.encode(errors="surrogateescape")
            if (letter := _SHORT.get(character)) is not None:
                short += re.escape(letter)
                self._meant[letter.encode().strip(b"\\")] = meant
            units = character.encode("utf-16-be", errors="surrogatepass")
            code = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
            self._meant[f"u{'u'.join(code)}".encode()] = meant
            codes.append(f"{_BACKSLASHES}u".join(code))
        escapes = "|".join([*([f"[{short}]"] if short else []), f"u(?i:{'|'.join(codes)})"])
        self._escape = re.compile(f"{_BACKSLASHES}({escapes})".encode()) if characters else None

    def plain(self, data: bytes) -> Plain:
        found = self._escape.finditer(data) if self._escape and b"\\" in data else ()
        return Plain(data, ((*one.span(), self._meant[one[1].replace(b"\\", b"").lower()]) for one in found))


def before_cut_escape(data: bytes) -> int:
    """How many bytes of `data` end with a whole escape, or none: it may have been cut in the middle of one."""
    cut = _CUT.search(data, max(0, len(data) - _LONGEST))
    return cut.start() if cut else len(data)
