"""Secrets of the environment never get through, however they are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.masking import MaskedStream, Masker

VALUE = "sk-ant-0123456789"
ENVIRON = {
    "ANTHROPIC_API_KEY": VALUE,
    "GITHUB_TOKEN": "ghp_abcdefghij",
    "DB_PASSWORD": 'pa"ss\\wörd-1',
    "DATABASE_URL": "postgres://user:hunter2hunter2@db/x",
    "HOME": "/home/somebody",
    "SSH_AUTH_SOCK": "/run/user/1000/agent.sock",
    "KEYBOARD": "qwertzuiop",
    "SHORT_KEY": "abc",
    "EMPTY_TOKEN": "",
}


def streamed(pieces: list[bytes], environ: dict[str, str] = ENVIRON) -> bytes:
    stream = MaskedStream(Masker(environ))
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.rest()])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"export KEY={VALUE}\n", "export KEY=[ANTHROPIC_API_KEY]\n"),
        ("ghp_abcdefghij,ghp_abcdefghij", "[GITHUB_TOKEN],[GITHUB_TOKEN]"),
        ('pa"ss\\wörd-1', "[DB_PASSWORD]"),
        (json.dumps({"text": 'it is pa"ss\\wörd-1'}), '{"text": "it is [DB_PASSWORD]"}'),
        (json.dumps({"text": 'pa"ss\\wörd-1'}, ensure_ascii=False), '{"text": "[DB_PASSWORD]"}'),
        ("the password is hunter2hunter2", "the password is [DATABASE_URL]"),
    ],
)
def test_a_secret_is_replaced_by_the_name_of_its_variable(text: str, shown: str) -> None:
    assert Masker(ENVIRON).text(text) == shown


@pytest.mark.parametrize("text", ["/home/somebody", "/run/user/1000/agent.sock", "qwertzuiop", "abc", "", VALUE[:-1]])
def test_what_is_no_secret_stays(text: str) -> None:
    assert Masker(ENVIRON).text(text) == text


@given(st.integers(0, len(VALUE)), st.integers(0, len(VALUE)), st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_in_pieces_is_masked_and_nothing_else_changes(one: int, two: int, before: bytes, after: bytes) -> None:
    first, second = sorted((one, two))
    secret = VALUE.encode()
    pieces = [before, secret[:first], secret[first:second], secret[second:], after]

    assert streamed(pieces) == Masker(ENVIRON).mask(b"".join(pieces))
    assert secret not in streamed(pieces)


@given(st.lists(st.sampled_from([b"sk-ant-", b"0123456789", b"sk-", b"ghp_", b"abcdefghij", b"\n", b"x"]), max_size=12))
def test_what_comes_in_pieces_is_what_comes_at_once(pieces: list[bytes]) -> None:
    assert streamed(pieces) == Masker(ENVIRON).mask(b"".join(pieces))


@given(st.lists(st.sampled_from([b"abcdefgh", b"ghijklmn", b"abcd", b"efghijklm", b"op", b"x"]), max_size=8))
def test_secrets_that_overlap_leave_nothing_of_either(pieces: list[bytes]) -> None:
    environ = {"A_KEY": "abcdefgh", "B_KEY": "ghijklmn", "C_KEY": "abcdefghijklmnop"}

    shown = streamed(pieces, environ)

    assert not [value for value in environ.values() if value.encode() in shown]
    assert shown == Masker(environ).mask(b"".join(pieces))


def test_nothing_waits_that_is_not_the_beginning_of_a_secret() -> None:
    stream = MaskedStream(Masker(ENVIRON))

    assert stream.feed(b"all is well\n") == b"all is well\n"
    assert stream.feed(b"look: sk-an") == b"look: "
    assert stream.feed(b"d so on\n") == b"sk-and so on\n"


def test_of_two_secrets_with_the_same_beginning_the_longer_counts() -> None:
    environ = {"A_KEY": "abcdefgh", "B_KEY": "abcdefghijkl"}

    assert streamed([b"abcdefgh", b"ijkl abcdefgh", b"!"], environ) == b"[B_KEY] [A_KEY]!"


def test_without_secrets_nothing_is_held_back() -> None:
    assert MaskedStream(Masker({})).feed(VALUE.encode()) == VALUE.encode()
