"""What Flower does for us unless it is told otherwise. Nothing here is needed to see tasks: Flower works without."""

import sys
from pathlib import Path

# Its own are: every address, and a list of tasks without arguments and results.
ADDRESS = "127.0.0.1"
COLUMNS = "args,state,result,uuid,received,worker,runtime"

# The states of a task that can be cancelled. Flower offers its button for the first only.
CANCELLABLE = ("STARTED", "PENDING", "QUEUED", "PROGRESS", "ASKING", "PARKED", "WAITING")
_BUTTON = '{% if task.state == "STARTED" %}\n      <button class="btn btn-danger" id="task-terminate">'


def apply() -> None:
    """Set them in the process of a `celery` command that has Flower loaded; in any other, nothing happens.

    Options given by flags, FLOWER_* variables or a configuration file go before.
    """
    if "flower.command" not in sys.modules:
        return
    from flower.options import default_options
    from flower.urls import settings
    from tornado.template import DictLoader

    for name, value in (("address", ADDRESS), ("tasks-columns", COLUMNS)):
        default_options._options[name].default = value
    settings["template_loader"] = DictLoader(templates(Path(settings["template_path"])))


def templates(folder: Path) -> dict[str, str]:
    """Flower's pages, by name; that of a task offers to terminate it in every state in which that means something."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    offer = _BUTTON.replace('== "STARTED"', f"in {CANCELLABLE}")
    return pages | {"task.html": pages["task.html"].replace(_BUTTON, offer)}
