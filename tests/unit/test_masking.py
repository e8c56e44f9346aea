"""Secrets of the environment never get through, however they are cut."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given
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


NAMES = [
    *(
        "PGPASSWORD",
        "MYSQL_PWD",
        "SSHPASS",
        "GITHUBTOKEN",
        "githubToken",
        "apiKeyOfProd",
        "NPM_TOKENS",
        "GITHUB_TOKEN2",
    ),
    *("AWS_SECRET_ACCESS_KEY", "SSHKEY", "SIGNING_KEYS", "db-password", "GITHUB_PAT", "npm_config__auth", "SENTRY_DSN"),
]
ORDINARY = [
    *("TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "HOTKEY", "SSH_AUTH_SOCK", "PASSWORD_STORE_DIR", "PGPASSFILE"),
    *(
        "GIT_ASKPASS",
        "BYPASS",
        "COMPASS",
        "GIT_AUTHOR_NAME",
        "SECRETARY",
        "AUTH_TYPE",
        "PWD",
        "OLDPWD",
        "TOKENIZER",
        "KEYTIMEOUT",
    ),
]
VALUES = st.text("abcABC0123456789+/=%-_.", min_size=8, max_size=60).filter(
    lambda value: not value.startswith(("./", "../")) and not (value.startswith("/") and os.path.lexists(value))
)


@given(st.sampled_from(NAMES), VALUES)
@example("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE")
def test_every_value_of_a_variable_named_like_a_secret_is_masked(name: str, value: str) -> None:
    assume(not (name.endswith("TOKENS") and value.isdigit()))

    assert streamed([f"<{value}>".encode()], {name: value}) == f"<[{name}]>".encode()


@given(st.sampled_from(ORDINARY), VALUES)
def test_no_value_of_a_variable_with_an_ordinary_name_is_masked(name: str, value: str) -> None:
    assert Masker({name: value}).text(value) == value


def test_a_path_that_is_there_is_no_secret_whatever_its_variable_is_called(tmp_path: Path) -> None:
    assert Masker({"SSH_KEY": str(tmp_path)}).text(f"ls {tmp_path}") == f"ls {tmp_path}"


@pytest.mark.parametrize("said", ["tok/with/slash&", r"tok\/with\/slash&", r"tok/with/slash\u0026"])
def test_a_secret_in_the_json_of_php_or_go_is_masked(said: str) -> None:
    assert Masker({"API_KEY": "tok/with/slash&"}).text(said) == "[API_KEY]"


@pytest.mark.parametrize("spell", ["\\u{:04x}", "\\u{:04X}", "\\\\u{:04X}"])
@given(st.data())
def test_a_secret_is_masked_however_json_spells_its_characters(spell: str, data: st.DataObject) -> None:
    secret = data.draw(VALUES)
    spelled = data.draw(st.sets(st.integers(0, len(secret) - 1), min_size=1))
    said = "".join(spell.format(ord(one)) if at in spelled else one for at, one in enumerate(secret))
    cut = data.draw(st.integers(0, len(said)))

    assert streamed([f"<{said[:cut]}".encode(), f"{said[cut:]}>".encode()], {"API_KEY": secret}) == b"<[API_KEY]>"


def test_a_secret_in_json_in_json_is_masked() -> None:
    value = 'pa"ss\\w/ö😀\n-1'
    said = json.dumps(json.dumps({"key": value}))

    assert Masker({"API_KEY": value}).text(said) == json.dumps(json.dumps({"key": "[API_KEY]"}))


def test_text_with_half_a_character_which_json_can_spell_is_masked_too() -> None:
    half = json.loads('"\\ud83d \\udc80"')

    assert Masker(ENVIRON).text(f"{half}{VALUE}") == f"{half}[ANTHROPIC_API_KEY]"


def test_escapes_of_other_text_stay_as_they_are() -> None:
    said = json.dumps({"text": 'a "quoted" \\path/\x1b\n'}).replace("/", "\\u002f")

    assert streamed([said.encode()], {"API_KEY": 'a/"b\\c\nd-e'}) == said.encode()


def test_a_number_of_tokens_is_no_secret() -> None:
    assert Masker({"MAX_TOKENS": "10000000"}).text("10000000") == "10000000"


LINES = [
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictG",
]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *LINES, "-----END PRIVATE KEY-----"])


@pytest.mark.parametrize("value", [PEM, f"{PEM}\n", PEM.replace("\n", "\\n"), json.dumps({"private_key": PEM})])
def test_each_line_of_a_key_of_many_lines_is_masked(value: str) -> None:
    environ = {"SIGNING_KEY": value}

    for said in (PEM, json.dumps(PEM), *(f"1\t{line}\n" for line in LINES)):
        shown = streamed([said.encode()], environ).decode()
        assert "[SIGNING_KEY]" in shown
        assert not [line for line in LINES if line in shown]


def test_the_borders_of_a_key_are_in_all_keys_and_stay() -> None:
    assert Masker({"SIGNING_KEY": PEM}).text("-----BEGIN PRIVATE KEY-----\n") == "-----BEGIN PRIVATE KEY-----\n"


def test_a_password_in_an_address_is_masked_as_it_stands_there_and_as_it_is() -> None:
    masker = Masker({"DATABASE_URL": "postgres://user:hunter%402hunter@db/x"})

    assert masker.text("hunter%402hunter hunter@2hunter") == "[DATABASE_URL] [DATABASE_URL]"


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


def test_a_secret_that_repeats_itself_is_masked_in_an_endless_run_of_it_and_little_waits() -> None:
    stream = MaskedStream(Masker({"DB_PASSWORD": "00000000"}))

    shown = [stream.feed(b"0" * 1001) for _ in range(100)]

    assert min(map(len, shown)) >= 1001 // 8
    assert b"".join([*shown, stream.rest()]) == b"[DB_PASSWORD]" * (100100 // 8) + b"0" * (100100 % 8)


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
