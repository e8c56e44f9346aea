"""The producer side of dispatch, and everything both sides share. Never imports `worker`."""

__version__ = "0.1.0"
