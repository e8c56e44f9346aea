"""Sentences that are tasks, however much they speak of configurations, models, aliases and cursors."""

import dataclasses

import pytest

from dispatch_queue.config.choose import Source, choose
from dispatch_queue.config.schema import Alias, Model
from dispatch_queue.config.words import read
from tests.unit.test_config_words import CONFIG, SURE, understood

NAMING_MODELS = """\
remove haiku generation from the poem module
make opus the default in server.py
use opus to clean up my config
use sonnet to add a config option for retries
use gpt-5.9 to refactor the config
use sonnet for the frontend
remove haiku with prompt: be kind
have opus review the config
dispatch sonnet to review the config
dispatch opus to fix the bug
make a quick fix
quick fix for the login
write a haiku
write a haiku about config files
add sonnet to the README
remove opus from models.py
remove quick sort
take opus
rename opus to sonnet in the docs
update the config docs using sonnet
review src/config.py, then add opus 4 style headers
make quick sort stable
make the reviewer alias resolver faster
""".splitlines()

NAMING_NONE = """\
fix the config loader in src/config.py
remove the dead code
add a default value to the model field
add tests for config parsing
migrate the database
migrate the config loader to pydantic
migrate the config to TOML
set default timeout to 5 s in server.py
set the default branch to main
set the default to dark mode
make dark the default
change the default port to 8080
let users change the default model
print the default model on startup
use cursor for pagination
make the button use primary colours
add a fallback for missing fonts
change the prompt: be kind
dispatch a worker to research model pricing
refactor the config parser
fix the bug in my config parser
take a look at my config loader
add an alias for `git status` to my .bashrc
add an alias called ll for ls
create a path alias using webpack
create an alias for the Foo type in types.py
delete the unused alias
delete the alias table
remove the User model
add a model
add a User model
add model User
add a fast model
add a user field to my models
add tests for my models
add a user agent header
add agents to the CRM
add support for gpt-5.3
add o3 support to the model picker
add logging to the config
add eslint to the config
add retries to our config
add tests to dispatch
add a dispatch table to the parser
remove debug from the config
remove codex
drop the users table
get rid of the global state
rename the function alias to name
change the model of the car to red
switch the database model to async
switch to postgres
switch to dark mode
route /api through nginx
update the README
create a config file for eslint
create a new React app
check the config for typos
validate the config on startup
show the config in the UI
show a spinner
list the models in the admin page
what does the config loader do?
where is the config parsed?
is the config loader thread-safe?
set up the project
set up dispatch queues in staging
register the model with the admin
do a security review of this project
implement the feature described in requirements.txt
use cursor-based pagination in the list endpoint
use a cursor to iterate over the rows
move the cursor to the end of the line after a paste
fix the cursor position after undo
change the cursor to a pointer on hover
switch to a server-side cursor for the export
use cursor pointers on all buttons
make the cursor blink
close the database cursor when the request fails
add a cursor parameter to the users endpoint
paginate the audit log with a cursor
have the cursor follow the drag handle
replace offset pagination with cursor pagination
tell the cursor to stay where it is
fix gpt 5 minutes timeout
explain why gpt 2 sampling is slow
add an alias gs for git status to my zshrc
create a shell alias for docker compose
fix the alias expansion in the shell parser
add an alias called ll for ls -la
remove the alias ll from .bashrc
update the shell alias to say hello
make the alias resolver case-insensitive
add column aliases to the SQL builder
alias numpy as np in all modules
import pandas under the alias pd
set the default value of retries to 3
set the default timeout to 30 seconds
change the default branch to main
make dark mode the default
use the default locale when none is given
make the search use the index instead of a scan
change the user's model to include an email
change the author's name to a full name
add a Profile model to the Django app
add a created_at field to the models
add Order to the models
add an index to the User model
update the model to validate emails
remove the Comment model and its migration
add a security agent to the simulation using behaviour trees
add an agent class for the negotiation module
give me an overview of the agent loop
I need an agent to review my code
I'd like a faster build
give me a list of all TODOs
add a backend for S3 storage
add a backend called api with express
add backend tests
add an eslint rule for unused imports
add prettier to the eslint config
update the webpack config to split vendor chunks
update my nginx config to use gzip
fix the tsconfig paths
move the pytest config into pyproject.toml
read the port from the config
config: validate the port on startup
config: fall back to defaults
config: read the model from the environment
write docs for the config file and make it the default
add a settings page and make it the default
create a dark theme using tailwind and make it the default
add a model field to the config schema
document the config options
rename the config loader
add a --config option to the CLI
remove the deprecated config keys
switch the session backend to redis
use redis for the cache backend
run the tests via docker
route the events through kafka
create an alias for my database connection string
add a cursor type to the GraphQL schema
make the model selector use radio buttons
set up an alias for the staging host
add a backend service with command handlers
add a backend named worker using the command pattern
create a backend endpoint using the command bus
alias User as Account in the imports
add an alias to the users table
give me an alias for the type
I want an alias for the git remote
use x=>y arrow functions
set the car's model to red
set the audio codec to mp3 instead of aac
make x86 the default
use http2 by default
default to utf8
set the default model to None in forms.py
make the default model configurable
change the model from User to Account
remove the model User
remove the model Comment
remove the model layer
delete the model checkpoints
remove the alias support
remove the agent loop
delete the agent smith
delete the User alias
rename the alias User to Account
rename the git alias to gst
add an API key to the config
unalias User
change the model of the car to nosuch
change the prompt of the dialog to "Are you sure?"
remove the prompt from the login page
remove the prompt from login
the default should be utf8
the button should be red
reset the default locale to English
swap the default icon from red to blue
set default_timeout to 30
the alias must be unique
show the available models in the sidebar
""".splitlines()


@pytest.mark.parametrize("text", [*NAMING_MODELS, *NAMING_NONE])
def test_a_task_is_not_taken_for_a_request(text: str) -> None:
    assert understood(text) is None
    assert read(text, CONFIG) is None


@pytest.mark.parametrize("text", NAMING_NONE)
def test_a_task_that_names_no_model_is_for_the_default(text: str) -> None:
    named = {"cursor": Model("cursor"), "gpt-5": Model("codex")}
    choice = choose(dataclasses.replace(CONFIG, models={**CONFIG.models, **named}), text, None)

    assert (choice.model, choice.source) == ("opus", Source.DEFAULT)


@pytest.mark.parametrize(
    "text", ["let docs use mkdocs", "switch docs to docsify", "update the docs", "docs: add a page"]
)
def test_an_alias_that_is_an_everyday_word_makes_no_task_a_request(text: str) -> None:
    config = dataclasses.replace(CONFIG, aliases={**CONFIG.aliases, "docs": Alias("sonnet")})

    assert read(text, config) is None


def test_the_tables_are_long_enough_to_say_something_of_precision() -> None:
    assert len(SURE) >= 100
    assert len(NAMING_MODELS) + len(NAMING_NONE) >= 140
