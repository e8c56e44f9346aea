"""Text of an agent's, made fit to be shown."""

MAX_CHARS = 120


def in_one_line(text: str, most: int = MAX_CHARS) -> str:
    """The first line of `text` that says something, printable, of at most `most` characters."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(char if char.isprintable() else " " for char in first).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"
