"""How the two providers refuse a request: the status, the headers and the body that the CLIs know."""

from tests.agents.script import Refuse

FAR_SECONDS = 7200  # from now to the end of a limit


def _anthropic(status: int, kind: str, text: str, headers: dict[str, str] | None = None) -> Refuse:
    return Refuse(status, {"type": "error", "error": {"type": kind, "message": text}}, headers or {})


def _openai(status: int, text: str, **facts: object) -> Refuse:
    return Refuse(status, {"error": {"message": text, **facts}})


def limit(cli: str, until: int) -> Refuse:
    """The account's allowance is used up until a time, in seconds since 1970."""
    if cli == "codex":
        text = "The usage limit has been reached"
        return _openai(429, text, type="usage_limit_reached", plan_type="plus", resets_at=until)
    unified = {"status": "rejected", "reset": str(until), "representative-claim": "five_hour"}
    headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in unified.items()}
    return _anthropic(429, "rate_limit_error", "This request would exceed your account's rate limit", headers)


REFUSALS = {
    "claude": {
        "auth": _anthropic(401, "authentication_error", "invalid x-api-key"),
        "rate": _anthropic(429, "rate_limit_error", "This request would exceed your rate limit"),
        "overloaded": _anthropic(529, "overloaded_error", "Overloaded"),
        "model": _anthropic(404, "not_found_error", "model: claude-opus-5-5"),
    },
    "codex": {
        "auth": _openai(401, "Incorrect API key provided", type="invalid_request_error", code="invalid_api_key"),
        "rate": _openai(429, "Rate limit reached on tokens per min", type="tokens", code="rate_limit_exceeded"),
        "overloaded": _openai(503, "overloaded", type="server_error", code="server_is_overloaded"),
        "model": _openai(
            404, "The model `gpt-5.3-codex` does not exist or you do not have access to it.",
            type="invalid_request_error", code="model_not_found",
        ),
    },
}  # fmt: skip

# The provider's trouble, over which the CLIs try again by themselves.
ERRORS = {
    "claude": _anthropic(500, "api_error", "Internal server error"),
    "codex": _openai(500, "Something went wrong", type="server_error"),
}
