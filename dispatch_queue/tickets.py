"""Tickets: Celery's names and settings, and the message that asks for a task's next attempt.

The change that queues a task sends its ticket in the same step (scripts/change.lua), so the message is made here
instead of by a Celery producer, which would also cost every `dispatch submit` 80 ms. Laid out as kombu 5.7 does it
(message protocol 2); tests/integration/test_tickets.py compares it with one that Celery sent.
"""

import base64
import json
import os
import re
import uuid
from typing import Any

from dispatch_queue.keys import PREFIX
from dispatch_queue.record import Isolation, Ref, Task

RUN = "dispatch.run"  # the Celery task
IDENTITY = "@identity@"  # as scripts/common.lua knows it
PRIORITY_STEPS = (0, 3, 6, 9)
DEFAULT_PRIORITY = 6


def settings(url: str) -> dict[str, Any]:
    """Celery's settings for a Redis at `url`."""
    return {
        "broker_url": broker_url(url),
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        # Early ack: late ack runs a long job again at every visibility timeout. Our claim does what it promises.
        "task_acks_late": False,
        "worker_pool": "threads",
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "worker_consumer": "worker.consumer:Consumer",
        "broker_transport_options": {
            "global_keyprefix": PREFIX,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "queue_order_strategy": "priority",
        },
    }


def broker_url(url: str) -> str:
    """A redis-py URL as kombu wants it: a Unix socket is `redis+socket://` there, and its `db` a `virtual_host`."""
    if not url.startswith("unix://"):
        return url
    return "redis+socket://" + re.sub(r"(?<=[?&])db=", "virtual_host=", url.removeprefix("unix://"))


def host_queue(host: str) -> str:
    """The queue for work that is bound to one machine."""
    return f"dispatch.host.{host}"


def queue_of(task: Task) -> str:
    """The queue of a task's tickets: a worktree task may run anywhere in its pool, a shared one on its host."""
    if task.isolation is Isolation.SHARED:
        return host_queue(task.host)
    return f"dispatch.{task.pool}.{task.backend}"


def key_of(queue: str, priority: int) -> str:
    """The name of the list for `priority`: kombu keeps one a step, the highest without a suffix."""
    step = max(step for step in PRIORITY_STEPS if step <= max(0, min(priority, 9)))
    return f"{queue}\x06\x16{step}" if step else queue


def shown(ref: Ref, model: str) -> str:
    """The arguments of a ticket as Flower shows them: task id, model, project."""
    return f"({ref.task}, {model}, {ref.project})"


def identity(ref: Ref) -> str:
    """The Celery id of every ticket of a task: all its attempts are one line in Flower."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"dispatch:{ref}"))


def message(ref: Ref, *, queue: str, model: str, priority: int = DEFAULT_PRIORITY) -> str:
    """The template of a task's tickets: ids only. Each ticket sent puts an identity of its own for IDENTITY."""
    one = identity(ref)
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[ref.project, ref.task], {}, embedded])
    envelope = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": RUN,
            "id": one,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": one,
            "parent_id": None,
            "argsrepr": shown(ref, model),
            "kwargsrepr": "{}",
            "origin": f"dispatch{os.getpid()}",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": one,
            "reply_to": "",
            "argsrepr": shown(ref, model),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": priority,
            "body_encoding": "base64",
            "delivery_tag": IDENTITY,
        },
    }
    return json.dumps(envelope)


def ref_in(ticket: bytes) -> Ref | None:
    """The task that a ticket asks for; None for something else."""
    try:
        arguments = json.loads(base64.b64decode(json.loads(ticket)["body"]))[0]
        return Ref(str(arguments[0]), str(arguments[1]))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
