"""A project whose agents are the real CLIs, with an API of ours as all the world they can reach."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agents import server
from tests.agents.alone import is_alone
from tests.agents.script import Model
from tests.support.sandbox import Sandbox
from tests.support.tasks import Gate

CLIS = os.environ.get("AGENT_CLIS", "")  # the folder with `claude` and `codex`, from `./dev agents`

MODELS = {"claude": ["opus", "sonnet", "haiku", "sonnet-4.6", "claude"], "codex": ["gpt-5.3-codex", "gpt-6.1-sol"]}


@dataclass(frozen=True)
class Cli:
    """One of the CLIs, by the name of its back end; `model` is the one it is used with where that is no matter."""

    name: str
    model: str


CLAUDE, CODEX = Cli("claude", "opus"), Cli("codex", "gpt-5.3-codex")
CODEX_IN_CODE = Cli("codex", "gpt-6.1-sol")  # a model that has its shell in another way, see openai_api.py


@pytest.fixture(scope="session", autouse=True)
def alone() -> None:
    if not CLIS or not is_alone():
        pytest.skip("the agent CLIs are installed and run, with no network but loopback, by `./dev agents`")


@pytest.fixture(params=[CLAUDE, CODEX], ids=["claude", "codex"])
def cli(request: pytest.FixtureRequest) -> Cli:
    """Each of the CLIs in its turn."""
    made: Cli = request.param
    return made


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def box(sandbox: Sandbox, model: Model) -> Iterator[Sandbox]:
    """A git repository. What is dispatched in it starts a worker, whose CLIs have a home of their own and `model`."""
    with server.serving(model) as url:
        user = Path(sandbox.env["HOME"])
        claude, codex = user / ".claude", user / ".codex"
        claude.mkdir()
        codex.mkdir()
        # Without a network, telling its maker what it did would keep codex for 5 s at its end.
        (codex / "config.toml").write_text(f'openai_base_url = "{url}/v1"\n[analytics]\nenabled = false\n')
        sandbox.env |= {
            "PATH": f"{CLIS}{os.pathsep}{sandbox.env['PATH']}",
            "CLAUDE_CONFIG_DIR": str(claude),
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "a-key-of-no-account",
            "CODEX_HOME": str(codex),
            "CODEX_API_KEY": "a-key-of-no-account",
        }
        configure(sandbox)
        sandbox.make_repository()
        yield sandbox


def configure(box: Sandbox, **sections: object) -> None:
    """Write a config.yaml with both CLIs as they are, some models, and `sections`."""
    config = {
        "default": "opus",
        "models": {model: {"backend": backend} for backend, models in MODELS.items() for model in models},
        "worker": {"slots": 4},
        **sections,
    }
    box.home.mkdir(mode=0o700, exist_ok=True)
    (box.home / "config.yaml").write_text(json.dumps(config, indent=2))  # JSON is YAML


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")
