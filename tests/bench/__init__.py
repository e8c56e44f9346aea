"""`./dev bench`: how fast and how large, beside bare Celery, RQ and a plain fork+exec. See docs/bench.md."""
