"""What reading the configuration costs a command."""

import os
import subprocess
import sys
from pathlib import Path

from dispatch_queue.config.load import load

HEAVY = {"pydantic", "yaml", "hashlib", "subprocess", "difflib", "shlex"}


def test_a_checked_file_is_read_without_heavy_imports(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "default: opus\nmodels: {opus: {backend: claude}, sonnet: {backend: claude}}\n"
    )
    load(tmp_path, {})
    code = (
        "import sys, pathlib\n"
        "from dispatch_queue.config import choose, load\n"
        f"config = load.load(pathlib.Path({str(tmp_path)!r})).config\n"
        "assert choose.choose(config, 'use sonnet', None).model == 'sonnet'\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": "."}
    )

    assert done.stdout.strip() == ""
