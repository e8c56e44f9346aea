"""Models under comments that name their provider: how a new file is written, and where a new model goes. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from dispatch_queue.config import document, marks, splice
from dispatch_queue.config.choose import PROVIDERS, provider_of


def grouped(models: Mapping[str, str]) -> dict[str, str]:
    """The same models, those of a provider together."""
    return {model: models[model] for heading in PROVIDERS for model in models if provider_of(model) == heading}


def headings(models: Iterable[str]) -> dict[str, list[str]]:
    """The comment above the first model of each provider."""
    firsts: dict[str, str] = {}
    for model in models:
        firsts.setdefault(provider_of(model), model)
    return {model: [f"# {heading}"] for heading, model in firsts.items()}


def add_model(text: str, model: str, backend: str, notes: Sequence[str] = ()) -> str:
    """`text` with one model more: among those of its provider where the models stand under comments, else last.

    `notes` are comment lines to put above it. Raises Unchangeable.
    """
    place, value = ("models", model), {"backend": backend}
    found = {comment.strip("#-= :").casefold(): comment for comment in marks.comments(text, ("models",))}
    if not found:
        return splice.put(text, place, value, notes={model: notes})
    provider = provider_of(model)
    same = [each for each in document.read(text).plain["models"] if provider_of(each) == provider]
    if same:
        return splice.put(text, place, value, after=same[-1], notes={model: notes})
    if provider.casefold() in found:
        return splice.put(text, place, value, below=found[provider.casefold()], notes={model: notes})
    if any(heading.casefold() in found for heading in PROVIDERS):
        notes = [f"# {provider}", *notes]
    return splice.put(text, place, value, notes={model: notes})
