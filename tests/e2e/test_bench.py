"""The measuring itself, not what it measures: numbers are never asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_bench_measures_a_part_and_leaves_nothing_behind(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.bench", "--quick", "--json", "tick"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}

    done = subprocess.run(
        words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)["series"]
    assert {one["part"] for one in measured} == {"tick"}
    assert all(one["n"] == len(one["values"]) > 0 for one in measured)
    assert not list(tmp_path.iterdir())
