"""A stand-in for Cursor's CLI, `agent`, which is on no registry: what its manual documents, and nothing else.

As a program it reads its words and standard input as strictly as the manual lets it, tells of its run in lines of
JSON, and does what the prompt says of plan.md. What it does not know ends it with status 1 and a line on stderr.
"""

import json
import os
import re
import select
import shlex
import sys
from pathlib import Path

SWITCHES = ("-p", "--print", "-f", "--force", "--trust", "--approve-mcps", "--stream-partial-output")
WITH_VALUE = ("--model", "--output-format", "--workspace", "--sandbox", "--mode", "--resume")
MODELS = {
    "auto": "Auto",
    "composer-1.5": "Composer 1.5  (current)",
    "gemini-3.1-pro": "Gemini 3.1 Pro  (default)",
    "grok-4": "Grok 4",
}
SESSION = "c6b62c6f-7ead-4fd6-9922-e952131177ff"
STDIN_WITHIN_SECONDS = 0.0  # it must have ended, or hold text, by the time the agent looks


def install(folder: Path) -> Path:
    """Put an executable `agent` into `folder`."""
    program = folder / "agent"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(__file__)} "$@"\n')
    program.chmod(0o755)
    return program


class Refused(Exception):
    """What it says on stderr before it ends with status 1."""


def main(words: list[str]) -> int:
    try:
        if words == ["models"]:
            sys.stdout.write("Available models\n\n" + "".join(f"{each} - {name}\n" for each, name in MODELS.items()))
        else:
            run(*read(words))
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def read(words: list[str]) -> tuple[dict[str, str], str]:
    """The options, and the prompt, to which standard input is added. Raises Refused."""
    options: dict[str, str] = {}
    prompts: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in SWITCHES:
            options[word] = ""
        elif word in WITH_VALUE:
            options[word] = next(rest, "")
        elif word.startswith("-"):
            raise Refused(f"error: unknown option '{word}'")
        else:
            prompts.append(word)
    if len(prompts) > 1:
        raise Refused("error: too many arguments")
    return options, "".join([*prompts, piped()])


def piped() -> str:
    """What stands on standard input. Raises Refused where it is open, with nothing to read."""
    if not select.select([sys.stdin], [], [], STDIN_WITHIN_SECONDS)[0]:
        raise Refused("standard input is left open, so this would wait for ever")
    return sys.stdin.read()


def run(options: dict[str, str], prompt: str) -> None:
    """Work, as lines of JSON. Raises Refused."""
    here = str(Path.cwd())
    if not options.keys() & {"-p", "--print"} or options.get("--output-format") != "stream-json":
        raise Refused("not in print mode, with lines of JSON: this would open a screen")
    if "--trust" not in options:
        raise Refused("Workspace Trust Required: pass --trust to go on")
    if not options.keys() & {"-f", "--force"}:
        raise Refused("without --force nothing may be written")
    if options.get("--model") not in MODELS:
        raise Refused(f"Cannot use this model: {options.get('--model')}. Available models: {', '.join(MODELS)}")
    if not os.environ.get("CURSOR_API_KEY"):
        raise Refused("Error: Authentication required. Run 'agent login' first, or set CURSOR_API_KEY.")
    if options.get("--workspace", here) != here:
        raise Refused(f"--workspace {options['--workspace']} is not where it was started")
    found = re.search(r"\.dispatch/tasks/[a-z0-9-]+/plan\.md", prompt)
    if found is None:
        raise Refused("the prompt names no plan")
    say("system", subtype="init", apiKeySource="env", cwd=here, model=MODELS[options["--model"]])
    say("user", message={"role": "user", "content": [{"type": "text", "text": prompt}]})
    say(
        "assistant", message={"role": "assistant", "content": [{"type": "text", "text": "I'll work through the plan."}]}
    )
    plan = Path(found[0])
    call = {"args": {"path": str(plan), "fileText": plan.read_text().replace("[ ]", "[x]")}}
    say("tool_call", subtype="started", call_id="tool_1", tool_call={"writeToolCall": call})
    plan.write_text(call["args"]["fileText"])
    (plan.parent / "ipc/.done").touch()
    done = {**call, "result": {"success": {"path": str(plan), "linesCreated": 3, "fileSize": plan.stat().st_size}}}
    say("tool_call", subtype="completed", call_id="tool_1", tool_call={"writeToolCall": done})
    say("result", subtype="success", is_error=False, duration_ms=5, duration_api_ms=5, result="All done.")


def say(kind: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"type": kind, **facts, "session_id": SESSION}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
