"""The first minutes with the real CLIs."""

from tests.support.sandbox import Sandbox


def test_x(box: Sandbox) -> None:
    (box.home / "config.yaml").unlink()
    done = box.run(program="dispatch-submit")
    print(done)
    print((box.home / "config.yaml").read_text())
    print(box.run("doctor", check=False))
    print(box.run("doctor", "--json", check=False).stdout)
    print(box.run("doctor", check=False, env={"ANTHROPIC_API_KEY": "", "CODEX_API_KEY": ""}))
    assert 0
