"""Which sentences are requests about the configuration, what they ask for, and which are tasks."""

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_queue.config.edit import AddAgent, AddAlias, AddModel, Edit, Migrate, RemoveAlias, RemoveModel, SetDefault
from dispatch_queue.config.forms import FORMS, Form
from dispatch_queue.config.mention import is_likely_about_config
from dispatch_queue.config.schema import Alias, Backend, Config, Model
from dispatch_queue.config.wish import Changes, Look, Unclear, Wish
from dispatch_queue.config.words import command_of, read

CONFIG = Config(
    default="opus",
    backends={"claude": Backend(), "mine": Backend("my-agent")},
    models={
        "opus": Model("claude"),
        "sonnet": Model("claude"),
        "haiku": Model("claude"),
        "gpt-5.2": Model("codex"),
        "composer-1.5": Model("cursor"),
        "mine": Model("mine"),
    },
    aliases={"quick": Alias("sonnet", "Be brief."), "reviewer": Alias("opus")},
)
FAST = AddAlias("fast", "haiku")
SCOUT = AddAlias("scout", "haiku")
TAKEN = "there is an alias `reviewer` already"
OWASP = "You are a security reviewer. Focus on OWASP Top 10\nvulnerabilities: auth flaws, and injection."


def understood(text: str) -> Wish | None:
    """What a submit understands: `read`, behind the quick look that is to save its time."""
    likely = is_likely_about_config(text, [*CONFIG.models, *CONFIG.aliases])
    return read(text, CONFIG) if likely else None


SURE: list[tuple[str, tuple[Edit, ...]]] = [
    ("add gpt-5.3 to my config", (AddModel("gpt-5.3"),)),
    ("Add GPT-5.3 to my config.", (AddModel("gpt-5.3"),)),
    ("please add `gpt-5.3` to my config", (AddModel("gpt-5.3"),)),
    ('can you add "gpt-5.3" to my config?', (AddModel("gpt-5.3"),)),
    ("\u201cadd gpt-5.3 to my config\u201d", (AddModel("gpt-5.3"),)),
    ("dispatch add gpt-5.3 to my config", (AddModel("gpt-5.3"),)),
    ('/dispatch "add gpt-5.3 to my config"', (AddModel("gpt-5.3"),)),
    ("Dispatch: add gpt-5.3 to my config", (AddModel("gpt-5.3"),)),
    ("could you please add gpt 5.3 to my dispatch config, thanks!", (AddModel("gpt-5.3"),)),
    ("I'd like to add gpt-5.3 to the config", (AddModel("gpt-5.3"),)),
    ("add gpt-5.3 to dispatch...", (AddModel("gpt-5.3"),)),
    ("add gpt-5.3 to ~/.dispatch/config.yaml", (AddModel("gpt-5.3"),)),
    ("add the model gpt-5.3", (AddModel("gpt-5.3"),)),
    ("add gpt-5.3 as a model to my config", (AddModel("gpt-5.3"),)),
    ("add agent gpt-5", (AddModel("gpt-5"),)),
    ("add a gpt-5 agent to my dispatch config", (AddModel("gpt-5"),)),
    ("add codex 5.3 to my config", (AddModel("gpt-5.3-codex"),)),
    ("add kimi-k2 to my config", (AddModel("kimi-k2"),)),
    ("add codex to my config", (AddModel("codex", "codex"),)),
    ("add gemini-2.5-pro to dispatch using cursor agent", (AddModel("gemini-2.5-pro", "cursor"),)),
    ("add gemini 2.5 pro via cursor to my config", (AddModel("gemini-2.5-pro", "cursor"),)),
    ("add sonnet-4.6 via claude code", (AddModel("sonnet-4.6", "claude"),)),
    ("add sonnet-4.6, gpt-5.3 and o3 to my config", (AddModel("sonnet-4.6"), AddModel("gpt-5.3"), AddModel("o3"))),
    ("add gpt-5.3 to my config and make it the default", (AddModel("gpt-5.3"), SetDefault("gpt-5.3"))),
    ("add a fast model called speedy that uses composer-1.5 via cursor", (AddAlias("speedy", "composer-1.5"),)),
    (
        "add a fast model called speedy that uses composer-2 via cursor",
        (AddModel("composer-2", "cursor"), AddAlias("speedy", "composer-2")),
    ),
    (
        f"create a security-reviewer alias using opus with prompt: {OWASP}",
        (AddAlias("security-reviewer", "opus", OWASP),),
    ),
    (
        'Create a security-reviewer alias for opus with the prompt "You are a security reviewer."',
        (AddAlias("security-reviewer", "opus", "You are a security reviewer."),),
    ),
    ("create a security-reviewer alias using opus", (AddAlias("security-reviewer", "opus"),)),
    ("create a rev alias using gpt-5.9", (AddModel("gpt-5.9"), AddAlias("rev", "gpt-5.9"))),
    ("create a rev alias using quick", (AddAlias("rev", "sonnet"),)),
    ("add an alias called fast for haiku", (FAST,)),
    ("make a new alias fast that uses haiku", (FAST,)),
    ("set up an alias fast for haiku in my config", (FAST,)),
    ("add alias fast -> haiku", (FAST,)),
    ("alias fast to haiku", (FAST,)),
    ("alias haiku as fast", (FAST,)),
    ("add an alias for haiku called fast", (FAST,)),
    ("add fast as an alias for haiku", (FAST,)),
    ("new alias: fast -> haiku", (FAST,)),
    ("switch default to sonnet", (SetDefault("sonnet"),)),
    ("please, could you switch the default to Sonnet?", (SetDefault("sonnet"),)),
    ("set default to gpt-5.2", (SetDefault("gpt-5.2"),)),
    ("set my default model to `sonnet`", (SetDefault("sonnet"),)),
    ("change my default model to quick", (SetDefault("quick"),)),
    ("set the default in my config to sonnet", (SetDefault("sonnet"),)),
    ("set default to gpt-5.9", (AddModel("gpt-5.9"), SetDefault("gpt-5.9"))),
    ("set default to shell", (SetDefault("shell"),)),
    ("set default to sonnnet", (SetDefault("sonnnet"),)),  # refused later, with what was meant
    ("set default sonnet", (SetDefault("sonnet"),)),
    ("default to sonnet", (SetDefault("sonnet"),)),
    ("make opus the default", (SetDefault("opus"),)),
    ("make sonnet my default model.", (SetDefault("sonnet"),)),
    ("use sonnet as the default from now on", (SetDefault("sonnet"),)),
    ("use sonnet by default", (SetDefault("sonnet"),)),
    ("sonnet should be the default", (SetDefault("sonnet"),)),
    ("I'd like sonnet to be my default model", (SetDefault("sonnet"),)),
    ("switch the default over to sonnet", (SetDefault("sonnet"),)),
    ("change my default from opus to sonnet", (SetDefault("sonnet"),)),
    ("i want sonnet as my default", (SetDefault("sonnet"),)),
    ("change model to sonnet", (SetDefault("sonnet"),)),
    ("switch my model to sonnet", (SetDefault("sonnet"),)),
    ("remove haiku", (RemoveModel("haiku"),)),
    ("Remove Haiku.", (RemoveModel("haiku"),)),
    ("remove gpt-5.2 from my config", (RemoveModel("gpt-5.2"),)),
    ("delete the gpt-5.2 model", (RemoveModel("gpt-5.2"),)),
    ("delete model gpt-5.2 from dispatch", (RemoveModel("gpt-5.2"),)),
    ("get rid of haiku", (RemoveModel("haiku"),)),
    ("take haiku out of my config", (RemoveModel("haiku"),)),
    ("remove haiku and gpt-5.2 from the config", (RemoveModel("haiku"), RemoveModel("gpt-5.2"))),
    ("delete the alias quick", (RemoveAlias("quick"),)),
    ("remove the quick alias", (RemoveAlias("quick"),)),
    ("remove quick from my config", (RemoveAlias("quick"),)),
    ("change model of alias quick to opus", (AddAlias("quick", "opus"),)),
    ("change the model for quick to gpt-5.9", (AddModel("gpt-5.9"), AddAlias("quick", "gpt-5.9"))),
    ("make quick use opus", (AddAlias("quick", "opus"),)),
    ("point the alias quick at haiku", (AddAlias("quick", "haiku"),)),
    ("switch quick to opus", (AddAlias("quick", "opus"),)),
    ("change the prompt of quick to: Don't `panic`.", (AddAlias("quick", "sonnet", "Don't `panic`."),)),
    ('update the prompt for the alias reviewer to "Be\nkind."', (AddAlias("reviewer", "opus", "Be\nkind."),)),
    ("rename the alias quick to fast", (AddAlias("fast", "sonnet", "Be brief."), RemoveAlias("quick"))),
    ("change backend of gpt-5.2 to cursor", (AddModel("gpt-5.2", "cursor"),)),
    ("switch gpt-5.2 to the cursor backend", (AddModel("gpt-5.2", "cursor"),)),
    ("route gpt-5.2 through cursor", (AddModel("gpt-5.2", "cursor"),)),
    ("make gpt-5.2 use cursor", (AddModel("gpt-5.2", "cursor"),)),
    ("use cursor for gpt-5.2", (AddModel("gpt-5.2", "cursor"),)),
    ("migrate my config", (Migrate(),)),
    ("please migrate my dispatch config to the new format", (Migrate(),)),
    ("create alias scout=haiku", (SCOUT,)),
    ("alias scout haiku", (SCOUT,)),
    ("add an alias called scout pointing to haiku", (SCOUT,)),
    ("give me an alias called scout for haiku", (SCOUT,)),
    ("I need a scout alias on haiku", (SCOUT,)),
    (
        'i\'d like an alias scout that runs haiku with prompt "be brief"',
        (AddAlias("scout", "haiku", "be brief"),),
    ),
    ("could you create me an alias scout: haiku?", (SCOUT,)),
    ("make an alias named scout that points to haiku", (SCOUT,)),
    ("set up scout as an alias for haiku", (SCOUT,)),
    ("set my default to the sonnet model", (SetDefault("sonnet"),)),
    ("make the default model sonnet", (SetDefault("sonnet"),)),
    ("let sonnet be the default", (SetDefault("sonnet"),)),
    ("default model = sonnet", (SetDefault("sonnet"),)),
    ("switch the model of quick from sonnet to opus", (AddAlias("quick", "opus"),)),
    ("change the quick alias from sonnet to opus", (AddAlias("quick", "opus"),)),
    ("add model gpt-5.3 with backend codex", (AddModel("gpt-5.3", "codex"),)),
    ("make quick use opus instead of sonnet", (AddAlias("quick", "opus"),)),
    ("make quick run opus rather than sonnet", (AddAlias("quick", "opus"),)),
    ("change quick's model to opus", (AddAlias("quick", "opus"),)),
    ("change the quick alias to opus", (AddAlias("quick", "opus"),)),
    ("update the reviewer\u2019s prompt to say nothing twice", (AddAlias("reviewer", "opus", "say nothing twice"),)),
    ("set quick's prompt to: Be kind.", (AddAlias("quick", "sonnet", "Be kind."),)),
    ('update the reviewer alias to say "Be kind."', (AddAlias("reviewer", "opus", "Be kind."),)),
    ("rename the quick alias to fast", (AddAlias("fast", "sonnet", "Be brief."), RemoveAlias("quick"))),
    ("reset the default to sonnet", (SetDefault("sonnet"),)),
    ("swap the default from opus to sonnet", (SetDefault("sonnet"),)),
    ("I'd like my default to be haiku", (SetDefault("haiku"),)),
    ("the default should be haiku", (SetDefault("haiku"),)),
    ("set default_model to sonnet", (SetDefault("sonnet"),)),
    ("unalias quick", (RemoveAlias("quick"),)),
    ("i want quick to mean opus", (AddAlias("quick", "opus"),)),
    ("the quick alias should use opus", (AddAlias("quick", "opus"),)),
    ("make quick mean opus", (AddAlias("quick", "opus"),)),
    ("remove the prompt from quick", (RemoveAlias("quick"), AddAlias("quick", "sonnet"))),
    ("config: default sonnet", (SetDefault("sonnet"),)),
    ("dispatch config: add gpt-5.3", (AddModel("gpt-5.3"),)),
    ("create a fast alias for haiku, and make it my default", (FAST, SetDefault("fast"))),
    (
        "add an alias fast for haiku with prompt: Be brief. Be kind, and make it the default",
        (AddAlias("fast", "haiku", "Be brief. Be kind"), SetDefault("fast")),
    ),
    ("make opus the default and remove haiku", (SetDefault("opus"), RemoveModel("haiku"))),
    ("set default to sonnet, then remove haiku", (SetDefault("sonnet"), RemoveModel("haiku"))),
]


@pytest.mark.parametrize(("text", "edits"), SURE)
def test_a_request_becomes_its_edits(text: str, edits: tuple[Edit, ...]) -> None:
    assert understood(text) == Changes(edits, sure=True)


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("remove gpt-9", (RemoveModel("gpt-9"),)),
        ("delete quick", (RemoveAlias("quick"),)),
        ("remove mine", (RemoveModel("mine"),)),
        ("add gpt-5.3", (AddModel("gpt-5.3"),)),
        ("add gpt-5.3 to config.yaml", (AddModel("gpt-5.3"),)),
        ("add gpt-5.3 to the models", (AddModel("gpt-5.3"),)),
        ("remove foo from my config", (RemoveModel("foo"),)),
        ("change the model to sonnet", (SetDefault("sonnet"),)),
        ("switch to sonnet", (SetDefault("sonnet"),)),
        ("create alias rev using opsu", (AddModel("opsu"), AddAlias("rev", "opsu"))),
        ("rename quick to fast", (AddAlias("fast", "sonnet", "Be brief."), RemoveAlias("quick"))),
        ("migrate the config", (Migrate(),)),
        ("migrate", (Migrate(),)),
    ],
)
def test_what_may_be_a_request_or_a_task_is_not_sure(text: str, edits: tuple[Edit, ...]) -> None:
    assert understood(text) == Changes(edits, sure=False)


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("what's in my config", Look.SHOW),
        ("What is in my config?", Look.SHOW),
        ("show config", Look.SHOW),
        ("show me my config please", Look.SHOW),
        ("config", Look.SHOW),
        ("list my models", Look.SHOW),
        ("list aliases", Look.SHOW),
        ("show me the available models", Look.SHOW),
        ("which models do I have?", Look.SHOW),
        ("what models are available", Look.SHOW),
        ("which model am I using?", Look.SHOW),
        ("what's my default model", Look.SHOW),
        ("where is my config", Look.PATH),
        ("where's the config file?", Look.PATH),
        ("show the config path", Look.PATH),
        ("check my config", Look.CHECK),
        ("is my config ok?", Look.CHECK),
    ],
)
def test_a_question_about_the_configuration_is_a_look_at_it(text: str, look: Look) -> None:
    assert understood(text) == look


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("create a security-reviewer alias", "dispatch config alias security-reviewer MODEL"),
        ("create an alias called rev", "dispatch config alias rev MODEL"),
        ("add an alias", "dispatch config alias NAME MODEL"),
        ("create a sec alias using opus to mind OWASP", "dispatch config alias sec opus --prompt TEXT"),
        ("set the fallback for opus to sonnet", "dispatch config path"),
        ("add another model to my config", "dispatch config add-model MODEL"),
        ("add gpt-5.3 to my config with prompt: Be kind", "dispatch config add-model gpt-5.3"),
        ("remove an alias", "dispatch config alias NAME --remove"),
        ("add mine to my config via nowhere", "dispatch config add-model mine --backend NAME"),
        ("add logging to my config", "dispatch config add-model logging --backend NAME"),
        ("set default", "dispatch config default MODEL"),
        ("change model", "dispatch config default MODEL"),
        ("switch my default agent to claude", "dispatch config default opus"),
        ("update my config to use sonnet for reviews", "dispatch config default sonnet"),
        ("change the config so that sonnet is the default", "dispatch config default sonnet"),
        ("add gpt-5.3 to my config and fix the login", "dispatch config add-model gpt-5.3"),
        ("remove haiku and the poem module", "dispatch config remove-model haiku"),
        ("add a retry limit to my config", "dispatch config add-model MODEL"),
        ("add config", "dispatch config add-model MODEL"),
        ("change the reviewer alias so that it is kind", "dispatch config alias reviewer MODEL --prompt TEXT"),
        ("add backend foo with command foo --x", "dispatch config add-agent foo COMMAND"),
        ("edit my config", "dispatch config path"),
        ("fix my config", "dispatch config check"),
        ("explain my config", "dispatch config show"),
        ("config add-model gpt-5.3", "dispatch config add-model gpt-5.3"),
        ("dispatch config show", "dispatch config show"),
    ],
)
def test_what_is_not_understood_gets_the_nearest_command(text: str, command: str) -> None:
    assert understood(text) == Unclear(command)


@pytest.mark.parametrize(
    ("text", "command", "reason"),
    [
        ("create an alias called ../../x using opus", "alias NAME opus", "not a name for an alias: `../../x`"),
        ('create an alias called "my docs" using opus', "alias NAME opus", "not a name for an alias: `my docs`"),
        ("alias --help opus", "alias NAME opus", "not a name for an alias: `--help`"),
        ("create an alias x2 using nosuch", "alias x2 MODEL", "unknown model `nosuch`"),
        ("change the quick alias to nosuch", "alias quick MODEL", "unknown model `nosuch`"),
        ("set the default to nosuch", "default MODEL", "unknown model `nosuch`"),
        ("set the default to utf8", "default MODEL", "unknown model `utf8`"),
        ("config: set the default to 8080", "default MODEL", "unknown model `8080`"),
        ("change model of alias fast to opus", "alias fast opus", "there is no alias `fast`"),
        ("update the revewer alias to say: Hi", "alias revewer MODEL --prompt TEXT", "there is no alias `revewer`"),
        ('update the nosuch alias to say "Hi"', "alias nosuch MODEL --prompt TEXT", "there is no alias `nosuch`"),
        ("delete the alias nosuch", "alias NAME --remove", "there is no alias `nosuch`"),
        ("unalias nosuch", "alias NAME --remove", "there is no alias `nosuch`"),
        ("remove the alias quick and nosuch", "alias NAME --remove", "there is no alias `nosuch`"),
        ("remove the model nosuch", "remove-model MODEL", "there is no model `nosuch`"),
        ("rename the alias nosuch to foo", "alias foo MODEL", "there is no alias `nosuch`"),
        ("change the model of quick to nosuch", "alias quick MODEL", "unknown model `nosuch`"),
        ("make quick use nosuch", "alias quick MODEL", "unknown model `nosuch`"),
        ("my default should be nosuch", "default MODEL", "unknown model `nosuch`"),
        ("reset the default to nosuch", "default MODEL", "unknown model `nosuch`"),
        ("remove the prompt from reviewer", "show", "the alias `reviewer` has no prompt"),
        ("remove the prompt from the alias nosuch", "show", "there is no alias `nosuch`"),
        *(
            (text, "alias reviewer --remove  # first, if it may go; else take another name", TAKEN)
            for text in ("rename the alias quick to reviewer", "rename quick to Reviewer")
        ),
        ("add model $(id) via cursor", "add-model MODEL --backend cursor", "not a model id: `$(id)`"),
        ("add model foo;rm -rf / via cursor", "add-model MODEL --backend cursor", "not a model id: `foo;rm -rf /`"),
    ],
)
def test_a_plain_request_with_a_wrong_name_is_told_what_is_wrong(text: str, command: str, reason: str) -> None:
    assert understood(text) == Unclear(f"dispatch config {command}", reason)


def test_an_alias_that_is_renamed_stays_the_default() -> None:
    config = dataclasses.replace(CONFIG, default="quick")

    edits = AddAlias("fast", "sonnet", "Be brief."), SetDefault("fast"), RemoveAlias("quick")
    assert read("rename the alias quick to fast", config) == Changes(edits, sure=True)


def test_an_alias_is_not_renamed_to_itself() -> None:
    assert isinstance(understood("rename the alias quick to Quick"), Unclear)


@pytest.mark.parametrize("text", ["add an eslint rule to my config", "add my api key to the config"])
def test_what_is_added_to_a_configuration_but_no_model_may_be_meant_for_another_program(text: str) -> None:
    wish = understood(text)

    assert isinstance(wish, Unclear)
    assert wish.command == "dispatch config path"
    assert "that is a task" in wish.reason


@pytest.mark.parametrize("text", ["", " ", "\n", "''", "?", "add", "add gpt-5.3\nto my config", "add " + "x " * 200])
def test_what_is_no_sentence_is_no_request(text: str) -> None:
    assert read(text, CONFIG) is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.example)
def test_each_form_is_there_for_its_example(form: Form) -> None:
    def meanings(forms: tuple[Form, ...]) -> Wish | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dispatch_queue.config.words.FORMS", forms)
            return read(form.example, CONFIG)

    assert meanings((form,)) is not None
    assert meanings((form,)) == understood(form.example)
    assert meanings(tuple(other for other in FORMS if other is not form)) != understood(form.example)


@pytest.mark.parametrize(
    ("edit", "command"),
    [
        (AddModel("gpt-5.3"), "dispatch config add-model gpt-5.3"),
        (AddModel("gpt-5.3", "cursor"), "dispatch config add-model gpt-5.3 --backend cursor"),
        (AddAgent("foo", "mycli --yes"), "dispatch config add-agent foo 'mycli --yes'"),
        (RemoveModel("a b"), "dispatch config remove-model 'a b'"),
        (SetDefault("opus"), "dispatch config default opus"),
        (AddAlias("rev", "opus", "Be kind."), "dispatch config alias rev opus --prompt 'Be kind.'"),
        (RemoveAlias("rev"), "dispatch config alias rev --remove"),
        (Migrate(), "dispatch config migrate"),
    ],
)
def test_an_edit_is_also_a_command(edit: Edit, command: str) -> None:
    assert command_of(edit) == command


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    read(text, CONFIG)


@given(st.lists(st.sampled_from("add my config to a the alias gpt-5.3 via and , default model x1 use prompt:".split())))
def test_no_sentence_takes_long_to_read(words: list[str]) -> None:
    began = time.process_time()
    read(" ".join(words), CONFIG)
    assert time.process_time() - began < 1
