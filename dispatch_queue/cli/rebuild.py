"""rebuild: tell Redis of every task that only the files know."""

import click

from dispatch_queue import registry, taskdir
from dispatch_queue.cli.standing import Here
from dispatch_queue.errors import Exit
from dispatch_queue.record import Ref


@click.command()
@click.option("--all", "everywhere", is_flag=True, help="Tasks of all projects of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rebuild(everywhere: bool, as_json: bool) -> int:
    """Tell Redis again of all unfinished tasks here, from their files, and bring home what it knows of the others.

    A worker of this machine does it by itself; this is for when none runs, or to see it done.
    """
    here = Here()
    projects = registry.projects(here.home) if everywhere else {}
    if not everywhere and here.project.id and registry.is_ours(here.home, here.project.id, here.project.path):
        projects = {here.project.id: here.project.path}
    store = here.store()
    from dispatch_queue.mirror import reconcile

    told = []
    for project_id, base in sorted(projects.items()):
        refs = [Ref(project_id, task_id) for task_id in taskdir.known_ids(base)]
        known = store.records(refs)
        reconcile(store, base, project_id)
        found = store.records([ref for ref in refs if ref not in known])
        told += [(base, record) for _, record in sorted(found.items(), key=lambda one: one[0].task)]
    if as_json:
        from dispatch_queue.cli.look import print_json

        print_json([{"project": str(base), "task": one.ref.task, "state": one.state} for base, one in told])
        return Exit.DONE
    for base, one in told:
        where = f" in {base}" if everywhere else ""
        reason = f": {one.reason}" if one.reason else ""
        click.echo(f"Told again of `{one.ref.task}`{where}, {one.state}{reason}")
    if not told:
        click.echo("nothing to tell: Redis knows every unfinished task", err=True)
    return Exit.DONE
