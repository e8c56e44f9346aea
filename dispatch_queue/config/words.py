"""Requests about the configuration in a user's own words: "add gpt-5.3 to my config". Pure.

A request is a whole sentence of a known form, with names in it and nothing more; every other sentence is a task.
"""

import dataclasses
import re
import shlex

from dispatch_queue.config.clis import CLIS
from dispatch_queue.config.edit import AddAgent, AddAlias, AddModel, Edit, Migrate, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.forms import CONFIG, FORMS, MY_DEFAULT, NAME, OURS, USES, A
from dispatch_queue.config.mention import is_model_id, with_whole_ids
from dispatch_queue.config.schema import Config
from dispatch_queue.config.wish import (
    Changes,
    Heard,
    Unclear,
    Wish,
    known_backend,
    may_name_an_agent,
    uses_prompt,
    which_agent,
)

_MAX_HEAD_CHARS = 200
_MAX_PROMPT_CHARS = 4000  # of one that is made of the sentence itself


def read(text: str, config: Config) -> Wish | None:
    """The request that `text` is, under `config`; None for a task."""
    text = text.strip()
    while len(text) > 1 and text[0] in "\"'`" and text[-1] == text[0]:
        text = text[1:-1].strip()
    if too := re.search(_TOO, text, re.IGNORECASE):
        wish = _read(text[: too.start()], config)
        if isinstance(wish, Changes) and (name := _added(wish.edits[-1])):
            return Changes((*wish.edits, SetDefault(name)), sure=wish.sure)
    return _read(text, config)


def _read(text: str, config: Config) -> Wish | None:
    said, prompt = _split(text)
    if prompt is None and (wish := _agent(said, config) or _described(said, config)):
        return wish
    if not said or len(said) > _MAX_HEAD_CHARS or "\n" in said:
        return None
    head = _plain(said)
    if found := re.fullmatch(_OF_CONFIG, head, re.IGNORECASE):
        wish = _formed(found[1], prompt, config) or _several(found[1], config)
        return dataclasses.replace(wish, sure=True) if isinstance(wish, Changes) else wish
    return _formed(head, prompt, config) or _several(head, config) or _unclear(head, config)


def _formed(head: str, prompt: str | None, config: Config) -> Wish | None:
    """What a sentence of one of the forms wants."""
    first, _, rest = head.partition(" ")
    for form in FORMS:
        if form.verbs and first.casefold() not in form.verbs:
            continue
        found = re.fullmatch(form.pattern, rest if form.verbs else head, re.IGNORECASE)
        heard = Heard(config, found.groupdict(), prompt) if found else None
        wish = form.means(heard) if heard is not None and heard.all_are_names() else None
        if wish is not None and (prompt is None or isinstance(wish, Unclear) or uses_prompt(wish)):
            return wish
    return None


def _added(edit: Edit) -> str | None:
    """The name of what an edit adds."""
    match edit:
        case AddModel(name) | AddAgent(name) | AddAlias(name):
            return name
    return None


def command_of(edit: Edit) -> str:
    """The command line that makes the same edit."""
    match edit:
        case AddModel(model, backend):
            words = ["add-model", model, *(["--backend", backend] if backend else [])]
        case AddAgent(name, command):
            words = ["add-agent", name, command]
        case RemoveModel(model):
            words = ["remove-model", model]
        case SetDefault(name):
            words = ["default", name]
        case AddAlias(name, model, prompt):
            words = ["alias", name, model, *(["--prompt", prompt] if prompt else [])]
        case RemoveAlias(name):
            words = ["alias", name, "--remove"]
        case Migrate():
            words = ["migrate"]
    return f"dispatch config {shlex.join(words)}"


# -- A sentence without what says nothing -----------------------------------------------------------------------------

_PROMPT = (
    r"(?P<head>[^\n]*?)[\s,;]*(?:\b(?:with|and|using|plus)\s+)?(?:\b(?:a|the|this|its)\s+)?(?:\bsystem\s+)?"
    r"\bprompt(?:\s*[:=]\s*|\s+(?:is|that\s+says|saying)\s*:?\s+|\s+(?=[\"'`\u201c]))(?P<prompt>.+)"
)
_PROMPT_OF = (
    r"(?P<head>[^\n]*?(?:\bprompt (?:of|for) [^\n]*?\bto|['\u2019]s prompt to|\balias\b[^\n]*? to say))\b:?\s+"
    r"(?P<prompt>.+)"
)
_TOO = (
    r",?\sand (?:then )?(?:make|set|use) it (?:as |to be )?(?:my|the) (?:new )?default(?: model| agent)?"
    r"(?:,? (?:please|too))?[\s.!]*$"
)
_OF_CONFIG = r"(?:dispatch )?(?:my )?config(?:uration)?: (.+)"
_ITS = r"(?:\b(?:the|my) )?([^\s'\u2019]+)['\u2019]s (model|prompt|backend)\b"
_LEAD = (
    r"(?:(?:[/@]?dispatch(?:-submit)?\b[:,]?(?!\s+config)|hey|hi|ok|okay|so|now|also|and|then|please|pls|kindly|just|lets"
    r"|go ahead and|help me(?: to)?|(?:can|could|would|will) (?:you|we|u|i)|id like(?: you)?(?: to)?"
    r"|i would like (?:you )?to|i (?:want|need)(?: you)?(?: to)?|you should|we should)[\s,:]+)+"
)
_TAIL = r"(?:[\s,]+(?:please|pls|thanks|thank you|thx|for me|(?:right )?now|instead|from now on|again|too|as well))+$"


def _split(text: str) -> tuple[str, str | None]:
    """A sentence, and the prompt that it gives to an alias."""
    if not re.search("prompt|alias", text[:_MAX_HEAD_CHARS], re.IGNORECASE):
        return text, None
    flags = re.IGNORECASE | re.DOTALL
    found = re.fullmatch(_PROMPT_OF, text, flags) or re.fullmatch(_PROMPT, text, flags)
    if not found:
        return text, None
    prompt = found["prompt"].strip()
    if prompt[0] in "\"'`\u201c" and prompt[-1] in "\"'`\u201d" and len(prompt) > 1:
        prompt = prompt[1:-1].strip()
    return found["head"], prompt or None


def _plain(head: str) -> str:
    """Without politeness, quotes and punctuation around it; ids that are spoken as words (`gpt 5.3`) as ids."""
    head = re.sub(_ITS, r"the \2 of \1", head, flags=re.IGNORECASE)
    head = re.sub("=>|->|=|\u2192", r" \g<0> ", head)
    head = " ".join(re.sub("[`\"'\u2018\u2019\u201c\u201d]", "", head).split()).rstrip(" .!?,;:\u2026")
    head = re.sub(_TAIL, "", head, flags=re.IGNORECASE).rstrip(" .!?,;:\u2026")
    head = re.sub(f"^{_LEAD}", "", head, flags=re.IGNORECASE)
    head = re.sub("^get rid of ", "remove ", head, flags=re.IGNORECASE)
    head = re.sub("^unalias ", "remove the alias ", head, flags=re.IGNORECASE)
    head = re.sub(
        r"^(?:(?:give|create|make) me |have )?(?=an? .*\b(?:alias|agent)\b)", "add ", head, flags=re.IGNORECASE
    )
    return with_whole_ids(head)


# -- An agent and its command, an alias and what it is for ------------------------------------------------------------

_RUNS = r"(?:runs?|running|uses?|using|with|starts?)(?: the command| command)?:?"
_AGENT = (
    rf"(?P<front>[^\n]{{0,80}}?\bagent\b[^\n]{{0,80}}?(?: {_RUNS}|:(?! {_RUNS})| =)) "
    r"(?:(?P<quote>[`\"'])(?P<quoted>(?:(?!(?P=quote))[^\n])+)(?P=quote)|(?P<bare>[^\n`\"'][^\n]*?))"
    r"(?:,? (?:please|(?:to|in) (?:my|the|dispatch(?:'s)?) config))?[ .!?]*"
)
_AGENT_FRONT = (
    rf"(?:add|create|make|register|define|set up) {A}(?:custom )?agent:? (?P<called>(?:called|named) )?(?P<name>{NAME})"
    rf"(?: to {OURS})?(?:[,:]? (?:that |which )?{_RUNS}| =)?"
)
_CLAUSE = r"\s+(?P<clause>(?:that|which|who) (?!(?:uses?|runs?) )\S.*)"
_CLAUSE_FIRST = (
    rf"(?P<head>.*\balias(?: {NAME})?)\s+(?P<clause>(?:that|which|who) .+?),?\s+(?P<model>(?:using|with) {NAME})[ .!]*"
)


def _agent(text: str, config: Config) -> Wish | None:
    """What "add an agent NAME that runs COMMAND" wants."""
    if len(text) > _MAX_PROMPT_CHARS or not (found := re.fullmatch(_AGENT, text, re.IGNORECASE)):
        return None
    front = re.fullmatch(_AGENT_FRONT, _plain(found["front"]), re.IGNORECASE)
    command = (found["quoted"] or found["bare"]).strip()
    if not front or not (front["called"] or may_name_an_agent(front["name"])) or _is_name(command, config):
        return None
    first, *others = command.split() or [""]
    options = [word for word in others if word.startswith("-")]
    known = any(first in cli.programs for cli in CLIS)
    if found["quoted"] or first.startswith(("/", "./", "~/")) or (options and (known or options[0] == others[0])):
        return Changes((AddAgent(front["name"], command),), sure=True)
    return None if others else Unclear(command_of(AddAgent(front["name"], command)))


def _described(text: str, config: Config) -> Wish | None:
    """What "create an alias NAME using MODEL that does so and so" wants."""
    if len(text) > _MAX_PROMPT_CHARS or not re.search("alias|agent", text[:_MAX_HEAD_CHARS], re.IGNORECASE):
        return None
    flags = re.IGNORECASE | re.DOTALL
    if found := re.fullmatch(_CLAUSE_FIRST, text, flags):
        head = f"{found['head']} {found['model']}"
    elif found := re.search(_CLAUSE, text, flags):
        head = text[: found.start()]
    wish = _formed(_plain(head), "", config) if found and len(head) <= _MAX_HEAD_CHARS else None
    if not found or not isinstance(wish, Changes) or not isinstance(wish.edits[-1], AddAlias):
        return None
    *others, alias = wish.edits
    assert isinstance(alias, AddAlias)
    prompt = f"You are an agent {found['clause'].rstrip(' .!')}."
    return Changes((*others, dataclasses.replace(alias, prompt=prompt)), sure=wish.sure)


def _several(head: str, config: Config) -> Wish | None:
    """What a sentence of several clauses wants, if the first one is a request."""
    clauses = re.split(r"(?:[,;.] )?(?<= )(?:and then|and|then) |[;.] ", head)
    wishes = [read(clause, config) for clause in clauses] if len(clauses) > 1 else []
    if not wishes or not isinstance(wishes[0], Changes):
        return None
    made = [wish for wish in wishes if isinstance(wish, Changes)]
    if len(made) < len(wishes):
        return Unclear(command_of(made[0].edits[0])) if made[0].sure else None
    edits = (edit for wish in made for edit in wish.edits)
    return Changes(tuple(edits), sure=all(wish.sure for wish in made))


# -- About the configuration, and not understood ----------------------------------------------------------------------

_SUBCOMMANDS = "show|path|check|add-agent|add-model|remove-model|alias|default|migrate|init"
_MENTIONED = rf"(?:{OURS})(?=$|[.,;:!?)]| (?:to|for|with|so|and|that|which|by|from|as|is|has|in|of|using)\b)"
_HALF = (
    rf"(?:add|create|make|define|new) {A}(?:(?P<alias>{NAME}) )?alias(?: (?:called |named )?(?P<name>{NAME}))?"
    r"|(?P<adds>add|create|register|set up) (?:(?:an?|another) )?(?:new )?agent"
    rf"(?: (?P<called>(?:called|named) )?(?P<agent>{NAME}))?"
    rf"|(?:remove|delete) {A}(?:alias|agent)"
    rf"|(?:change|switch) (?:the |my )?model|(?:set|change|switch|update) {MY_DEFAULT}"
    rf"|(?:edit|open|modify|change|update|reset) (?:{OURS}|{CONFIG})|add (?:{OURS}|config)"
)
_KEY = rf"(?:add|put|include) my (?:[\w-]+ ){{0,2}}(?:keys?|tokens?|passwords?|credentials) (?:to|in|into) {CONFIG}"
_ALIAS_AND_MORE = (
    rf"(?:add|create|make|define|new) {A}(?:(?P<alias>{NAME}) alias|alias (?P<name>{NAME}))"
    rf" (?:using|for|with) (?P<model>{NAME}) .+"
)
_BAD_MODEL = (
    rf"(?:add|include|register|enable) {A}models? (?:(?:called|named) )?"
    r"(?P<model>\S*[$;|&\\]\S*(?: .+)?) (?:via|using|through|with|on) (?P<backend>[\w-]+)"
)
_BAD_ALIAS = (
    rf"(?:(?:add|create|make|define|set up|new) {A})?"
    r"(?:alias:? (?:(?:called|named) )?(?P<alias>\S+|(?:(?<=called )|(?<=named ))\S+ \S+)|(?P<name>\S+) alias)"
    rf" (?:{USES})?(?P<model>{NAME})"
)
_PARTS = "models?|alias(?:es)?|agents?|default|back ?ends?|fallbacks?|limits?|slots?|prompts?|workers?|redis|notify"
_OF_OTHERS = rf"(?:add|put|include) (?!to\b)(?!.*\b(?:{_PARTS})\b)"
_DIRECTED = r"^(?:use|using|have|let|ask|tell|with|dispatch) \S+ (?:to|and)\b"
_EDITING = r"^(?:set|change|switch|make|update|edit|modify)\b"
_CHANGING = r"^(?:add|remove|delete|set|change|switch|make|update|edit|modify|put|create)\b"


def _unclear(head: str, config: Config) -> Unclear | None:
    """The nearest command for a sentence that is about the configuration and has none of the forms."""
    if found := re.fullmatch(rf"(?:dispatch )?(config (?:{_SUBCOMMANDS})\b.*)", head, re.IGNORECASE):
        return Unclear(f"dispatch {found[1]}")
    if re.match(_DIRECTED, head, re.IGNORECASE):
        return None
    names = [name for name in re.findall(r"[\w.:/@+-]*\w", head) if _is_name(name, config)]
    if bad := _bad_name(head, names, config):
        return bad
    half = re.fullmatch(_HALF, head, re.IGNORECASE)
    if half and half["adds"]:
        agent = half["agent"]
        is_code = agent is not None and not half["called"] and not may_name_an_agent(agent)
        return None if is_code else which_agent(agent or "NAME")
    about = half or re.search(_MENTIONED, head, re.IGNORECASE) or re.fullmatch(_KEY, head, re.IGNORECASE)
    if not about and names and re.match(_CHANGING, head, re.IGNORECASE):
        about = re.search(rf"{CONFIG}(?: (?:to|so)\b|[,:]|$)", head, re.IGNORECASE)
    if half and (alias := half["alias"] or half["name"]):
        return Unclear(f"dispatch config alias {shlex.quote(alias)} MODEL")
    if (more := re.fullmatch(_ALIAS_AND_MORE, head, re.IGNORECASE)) and more["model"] in names:
        return Unclear(
            f"dispatch config alias {shlex.quote(more['alias'] or more['name'])} {more['model']} --prompt TEXT"
        )
    if re.match(_EDITING, head, re.IGNORECASE):
        for name in config.aliases:
            if re.search(
                rf"\b(?:{re.escape(name)} alias|alias {re.escape(name)}) (?:so|to|use|more|less)\b", head, re.IGNORECASE
            ):
                return Unclear(f"dispatch config alias {shlex.quote(name)} MODEL --prompt TEXT")
    if names and re.match(_CHANGING, head, re.IGNORECASE) and re.search(r"\bfallback (?:for|of)\b", head):
        return Unclear("dispatch config path")
    if about and not half and not names and re.match(_OF_OTHERS, head, re.IGNORECASE):
        return Unclear(
            "dispatch config path", "dispatch's config holds no such thing; if another is meant, that is a task"
        )
    return Unclear(_nearest(head.casefold(), names)) if about else None


def _bad_name(head: str, names: list[str], config: Config) -> Unclear | None:
    """The nearest command for a request that is plain but for a name that can be none."""
    found = re.fullmatch(_BAD_MODEL, head, re.IGNORECASE)
    if found and (backend := known_backend(found["backend"], config)):
        return Unclear(f"dispatch config add-model MODEL --backend {backend}", f"not a model id: `{found['model']}`")
    found = re.fullmatch(_BAD_ALIAS, head, re.IGNORECASE)
    if found and found["model"] in names:
        name = found["alias"] or found["name"]
        if not re.fullmatch(NAME, name, re.IGNORECASE):
            return Unclear(f"dispatch config alias NAME {found['model']}", f"not a name for an alias: `{name}`")
    return None


def _is_name(name: str, config: Config) -> bool:
    return name.casefold() in {each.casefold() for each in (*config.models, *config.aliases)} or is_model_id(name)


def _nearest(head: str, names: list[str]) -> str:
    """The command for what a sentence seems to want, with the names in it where they are known."""
    verb = head.partition(" ")[0]
    removes = verb in ("remove", "delete", "drop", "forget")
    model = shlex.quote(names[0]) if names else "MODEL"
    if "alias" in head:
        words = "alias NAME --remove" if removes else f"alias NAME {model}"
    elif "default" in head:
        words = f"default {model}"
    elif removes:
        words = f"remove-model {model}"
    elif "migrate" in head or "format" in head:
        words = "migrate"
    elif verb in ("add", "put", "create", "register", "include"):
        words = f"add-model {model}"
    elif verb in ("change", "switch", "set") and "model" in head:
        words = f"default {model}"
    elif verb in ("edit", "open", "modify", "where"):
        words = "path"
    elif names:
        words = f"default {model}"
    else:
        words = "check" if verb in ("check", "fix", "test", "validate") else "show"
    return f"dispatch config {words}"
