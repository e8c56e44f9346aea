"""Celery's consumer, for which no error is the last."""

from typing import Any

import pytest
from celery import Celery
from celery.bootsteps import CLOSE
from celery.worker import WorkController

from dispatch_queue.tickets import settings
from worker.consumer import Consumer


class Torn:
    """A connection that kombu cannot close: it gives a message back over one that is gone."""

    def __init__(self, real: Any) -> None:
        self.connection_errors, self.channel_errors = real.connection_errors, real.channel_errors

    def close(self) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")


@pytest.fixture
def consumer() -> Consumer:
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.update(settings("memory://"))
    return WorkController(app=app).consumer


def test_a_connection_that_cannot_be_closed_is_let_go(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.connection = Torn(consumer.conninfo)

    consumer.on_connection_error_after_connected(OSError("gone"))

    assert consumer.connection is None
    assert "the lost connection is not closed in order" in caplog.text


def test_whatever_ends_its_loop_it_begins_anew(consumer: Consumer) -> None:
    errors = iter([AttributeError("ours"), RuntimeError("kombu's"), KeyError("anybody's")])
    begun = 0

    def start(_: object) -> None:
        nonlocal begun
        begun += 1
        for error in errors:
            raise error
        consumer.blueprint.state = CLOSE

    consumer.blueprint.start = start

    consumer.start()

    assert begun == 4
