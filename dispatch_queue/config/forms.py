"""The sentences that ask for something of the configuration: a table. Pure; see `words`."""

from collections.abc import Callable
from typing import NamedTuple

from dispatch_queue.config import wish
from dispatch_queue.config.wish import Heard, Wish

# The parts that sentences are made of. They are looked at in one line, without quotes, with single spaces.
NAME = r"[a-z0-9](?:[\w.:/@+-]*\w)?"
_NAMES = rf"(?P<names>{NAME}(?:(?:,|,? and| &) {NAME})*)"
_MODEL = f"(?P<model>{NAME})"
_ALIAS = f"(?P<alias>{NAME})"
_FILE = r"config(?:uration)?(?:\.ya?ml)?(?: file)?"
OURS = rf"my (?:old )?(?:dispatch )?{_FILE}|(?:the |your )?dispatchs? {_FILE}|~?/?\S*\.dispatch/config\.yaml"
CONFIG = r"(?:(?:the |your |our |this )?config(?:uration)?(?: file)?)"
_PLACE = rf"(?:(?P<ours>{OURS})|(?P<place>{CONFIG}|dispatch|my (?:models|aliases|agents))|config\.ya?ml|the models)"
_IN = rf" (?:to|into|in|from|of|out of) {_PLACE}"
_IN_OURS = rf" (?:to|in|into) (?:{OURS}|{CONFIG})"
_IN_IT = f"(?:{_IN_OURS})?"
_BACKEND = r"(?:the )?(?:backend )?(?P<backend>[\w.-]+)(?: (?:code|agent|cli|backend))?"
_VIA = f" (?:via|using|through|with|over|on) {_BACKEND}"
_ROUND = f"(?:{_IN}|{_VIA}){{0,2}}"
A = "(?:(?:the|a|an|my|another) )?(?:new )?"
MY_DEFAULT = "(?:(?:my|the|our|a|dispatchs?) )?(?:new )?default(?:[ _-]model| agent)?"
_RUNS_ON = "(?:(?:that|which) (?:uses|runs)|using|uses|running)"
USES = (
    f"(?:{_RUNS_ON}|use|(?:that |which )?(?:means|is|points (?:to|at))|pointing (?:to|at)|for|of|on|with|to"
    "|->|=>?|\u2192) (?:the )?(?:model )?"
)
_IT = f"(?:the )?(?:model )?{_MODEL}(?: model)?"
_FROM = f"(?:from {NAME} )?"
_NOT = f"(?:,? (?:instead of|rather than) {NAME})?"
_THE_ALIAS = rf"(?:the |my )?(?=(?P<kind>alias |\S+ alias\b)?)(?:alias )?{_ALIAS}(?: alias)?"


class Form(NamedTuple):
    """Sentences that begin with one of `verbs` (none: with anything) and go on as `pattern` says."""

    example: str
    verbs: frozenset[str]
    pattern: str
    means: Callable[[Heard], Wish | None]


def _form(example: str, verbs: str, pattern: str, means: Callable[[Heard], Wish | None]) -> Form:
    return Form(example, frozenset(verbs.split()), pattern, means)


_ADD = "add include register enable put"
_MAKE = "create make add define set new register"
_SET = "switch set change make update move reset swap"
_REMOVE = "remove delete drop forget unregister"
_SHOW = "show print display view cat list"

FORMS = (
    _form(
        "add gpt-5.3 to my config",
        _ADD,
        rf"{A}(?:(?P<kind>models?|agents?) (?:called |named )?)?{_NAMES}{_ROUND}",
        wish.add,
    ),
    _form(
        "add a speedy agent using opus",
        _MAKE,
        rf"(?:up )?{A}{_ALIAS} agent(?P<here>{_IN_OURS})? {_RUNS_ON} {_MODEL}{_ROUND}",
        wish.agent_alias,
    ),
    _form(
        "add a gpt-5.3 agent via cursor",
        _ADD,
        rf"{A}{_NAMES} (?:as an? )?(?P<kind>models?|agents?){_ROUND}",
        wish.add,
    ),
    _form(
        "add a backend speedy with the command speedy --yes",
        _MAKE,
        rf"(?:up )?{A}back ?end (?:called |named )?{_ALIAS} (?:with|using) (?:the )?command:? (?=.*(?:/| -)).+",
        wish.own_backend,
    ),
    _form(
        "add a fast model called speedy that uses opus via claude",
        _MAKE,
        rf"(?:up )?{A}(?:\w+ ){{0,3}}?(?:model|agent|worker|alias) (?:called|named) {_ALIAS} {USES}{_MODEL}{_ROUND}",
        wish.alias,
    ),
    _form(
        "add an agent speedy that uses opus",
        _MAKE,
        rf"(?:up )?{A}(?:agent|worker) {_ALIAS} (?:(?:that|which) (?:uses|runs)|using|running) {_MODEL}{_ROUND}",
        wish.alias,
    ),
    _form(
        "create a speedy alias using opus",
        _MAKE,
        rf"(?:up )?{A}{_ALIAS} alias{_IN_IT} {USES}{_MODEL}{_ROUND}",
        wish.alias,
    ),
    _form(
        "set up an alias speedy for opus",
        _MAKE,
        rf"(?:up )?{A}alias:? (?:(?:called|named) )?{_ALIAS}{_IN_IT}:? "
        rf"(?:(?P<uses>{_RUNS_ON} )|{USES})?{_MODEL}{_ROUND}",
        wish.alias,
    ),
    _form(
        "add an alias for opus called speedy",
        _MAKE,
        rf"(?:up )?{A}alias (?:for |of |to )?{_MODEL} (?:called|named|as) {_ALIAS}{_ROUND}",
        wish.alias,
    ),
    _form(
        "add speedy as an alias for opus",
        f"{_MAKE} let",
        rf"(?:up )?{_ALIAS} (?:as |be )?(?:an )?alias (?:for|of|to) {_MODEL}{_ROUND}",
        wish.alias,
    ),
    _form("alias speedy to opus", "alias alias:", rf"{_ALIAS}:? (?:{USES})?{_MODEL}{_ROUND}", wish.alias),
    _form("alias opus as speedy", "alias", rf"{_MODEL} (?:called|named|as) {_ALIAS}{_ROUND}", wish.alias),
    _form(
        "switch my default model to opus",
        _SET,
        rf"{MY_DEFAULT}{_IN_IT} (?:(?:over |back )?{_FROM}to(?: be)?|as|=|be) {_IT}{_ROUND}{_NOT}",
        wish.default_to,
    ),
    _form("set default opus", "set make", rf"{MY_DEFAULT} {_IT}", wish.as_default),
    _form("default to opus", "default default:", rf"(?:model )?(?:to |= |is )?{_MODEL}", wish.as_default),
    _form(
        "make opus the default",
        "make set use choose pick let",
        rf"{_IT} (?:as |to be |be )?{MY_DEFAULT}{_ROUND}{_NOT}",
        wish.as_default,
    ),
    _form(
        "my default should be opus",
        "",
        rf"(?:(?P<ours>my )|the )?default(?: model| agent)? (?:should be|must be|to be|is) {_IT}",
        wish.as_default,
    ),
    _form("use opus by default", "use switch", rf"(?:to )?{_IT} (?:by|as) default", wish.as_default),
    _form(
        "opus should be the default",
        "",
        rf"{_MODEL} (?:should be|must be|to be|as|is) {MY_DEFAULT}{_ROUND}",
        wish.as_default,
    ),
    _form(
        "change my model to opus",
        "change switch set",
        rf"(?:(?P<the>the) |my |dispatchs? )?model to {_MODEL}",
        wish.model_to,
    ),
    _form("switch to opus", "switch", rf"(?P<the>to) {_MODEL}", wish.model_to),
    _form(
        "remove the model haiku from my config",
        _REMOVE,
        rf"{A}(?P<stated>(?P<kind>models?|agents?|alias|aliases) (?:called |named )?)?{_NAMES}(?:{_IN})?",
        wish.remove,
    ),
    _form(
        "remove the haiku model",
        _REMOVE,
        rf"{A}{_NAMES} (?P<kind>models?|agents?|alias|aliases)(?:{_IN})?",
        wish.remove,
    ),
    _form("take haiku out of my config", "take", rf"{_NAMES} out of {_PLACE}", wish.remove),
    _form(
        "change the model of the alias quick to opus",
        _SET,
        rf"(?P<stated>(?:the )?model (?:of|for) ){_THE_ALIAS} {_FROM}to {_MODEL}{_NOT}",
        wish.change_alias,
    ),
    _form(
        "change the prompt of quick to: Be quick.",
        _SET,
        rf"(?:the )?(?:prompt (?:of|for) )?{_THE_ALIAS} to(?: say)?",
        wish.change_alias,
    ),
    _form(
        "point quick at opus",
        f"{_SET} let have point",
        rf"{_THE_ALIAS} (?:{_FROM}to |at |(?:to )?(?:use |run |be |mean )){_MODEL}{_NOT}",
        wish.change_alias,
    ),
    _form(
        "make quick use nosuch",
        "make",
        rf"{_THE_ALIAS} (?P<stated>use) {_MODEL}{_NOT}",
        wish.change_alias,
    ),
    _form(
        "i want quick to mean opus",
        "",
        rf"{_THE_ALIAS} (?:should|must|to) (?:use|run|be|mean|stand for|point (?:to|at)) {_MODEL}{_NOT}",
        wish.change_alias,
    ),
    _form(
        "remove the prompt from quick",
        _REMOVE,
        rf"(?:the )?prompt (?:from|of|for) {_THE_ALIAS}",
        wish.remove_prompt,
    ),
    _form("rename the alias quick to fast", "rename", rf"{_THE_ALIAS} to {_MODEL}", wish.rename_alias),
    _form(
        "set the backend of gpt-5.2 to cursor",
        _SET,
        rf"(?:the )?backend (?:of|for) {_MODEL} to {_BACKEND}",
        wish.backend,
    ),
    _form(
        "switch gpt-5.2 to the cursor backend",
        _SET,
        rf"{_MODEL} to (?:the )?(?P<backend>[\w.-]+) backend",
        wish.backend,
    ),
    _form("make gpt-5.2 use cursor", _SET, rf"{_MODEL} (?:to )?use {_BACKEND}{_NOT}", wish.backend),
    _form("use cursor for gpt-5.2", "use", rf"{_BACKEND} for {_MODEL}", wish.backend),
    _form("route gpt-5.2 through cursor", "route run", rf"{_MODEL} (?:via|through) {_BACKEND}", wish.backend),
    _form(
        "migrate my config to the new format",
        "migrate upgrade convert",
        rf"{_PLACE}(?P<new> (?:to|into) the (?:new|current|latest) (?:config )?(?:format|schema|version|style))?",
        wish.migrate,
    ),
    _form("migrate", "", "migrate", wish.migrate),
    _form("show me my config", _SHOW, rf"(?:me )?(?:the contents of )?(?:{OURS}|{CONFIG})", wish.show),
    _form(
        "list my models",
        _SHOW,
        "(?:me )?(?:(?:all )?(?:the )?(?:my|configured|available) )?(?:models|aliases|backends)",
        wish.show,
    ),
    _form(
        "what is in my config",
        "what whats",
        rf"(?:(?:is|are|do i have|does it say) )?in (?:{OURS}|{CONFIG})|(?:is )?{OURS}",
        wish.show,
    ),
    _form(
        "which models do i have",
        "what which",
        "model (?:am i using|do i use)|"
        "(?:models|aliases|backends|agents) (?:do i have|have i|are (?:available|configured|there)|can i use)"
        rf"(?: in (?:{OURS}|{CONFIG}))?",
        wish.show,
    ),
    _form(
        "whats my default model",
        "what which whats",
        "(?:is |model is )?(?:my|the) default(?: model| agent)?",
        wish.show,
    ),
    _form("my config", "", f"{OURS}|{CONFIG}", wish.show),
    _form("where is my config", "where wheres", rf"(?:is )?(?:{OURS}|{CONFIG})(?: stored| kept| located)?", wish.path),
    _form(
        "show the config path",
        f"{_SHOW} config",
        rf"(?:me )?(?:(?:{OURS}|{CONFIG}) )?path|(?:me )?where {OURS} is",
        wish.path,
    ),
    _form("check my config", "check validate verify", f"{OURS}|{CONFIG}", wish.check),
    _form("is my config ok", "is", rf"(?:{OURS}|{CONFIG}) (?:ok|okay|valid|fine|right|correct|good)", wish.check),
)
