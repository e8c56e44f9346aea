"""Celery's consumer, for which no error is the last.

By itself it ends the worker with an error that it does not know: one that Redis gives while it changes its role, lacks
memory or disk, or one of kombu's own after a lost connection. The process would then heartbeat until its last agent is
through, look well, and take no ticket.
"""

import logging
from typing import Any

from celery.worker import consumer

log = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Connects anew after whatever ends its loop; Celery lets one second pass between many in a row."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channel_errors = (Exception,)  # those that the setting `broker_channel_error_retry` is about

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close what is left of the connection. kombu can fail at that, when it gives messages back."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:
            log.warning("the lost connection is not closed in order", exc_info=True, extra={"action": "reconnect"})
            self.connection = None
