"""A conversation in a terminal: what is typed is asked, or is a command when it begins with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cli.ask import Interrupted, Manner, ask
from cli.client import Client
from cli.conversation import Conversation, chat_models
from cli.errors import CliError
from cli.output import dim
from cli.prompt import Prompt, Typed

_HELP = """\
/new              begin anew, with the same model and system's word
/model [NAME]     talk to another model; without a name: which there are
/system [TEXT]    what the model is told beforehand; without a text: nothing
/retry            have the last question answered again
/thinking         show what the model thinks, or no longer
/verbose          tell what each answer took, or no longer
/save FILE        keep the conversation      /load FILE   go on with one that was kept
/help             this                       /bye         leave; so does Ctrl-D
Ctrl-C stops the answer, not the program. \"\"\" begins and ends a text of several lines; a line that ends
in \\ goes on with the next one.
"""


class Bye(Exception):
    """Whoever sits there wants to leave."""


def talk(client: Client, conversation: Conversation, manner: Manner, history: Path | None) -> None:
    """Turn after turn, until Ctrl-D or ``/bye``. What goes wrong is told, and the conversation goes on."""
    talk = Talk(client, conversation, manner)
    sys.stderr.write(f"talking to {conversation.model}; /help tells more, Ctrl-D leaves\n")
    with Prompt(history, talk.complete) as prompt:
        while True:
            try:
                typed = prompt.read()
                if typed is None:
                    sys.stderr.write("\n")
                    return
                talk.take(typed)
            except Bye:
                return
            except KeyboardInterrupt:
                sys.stderr.write(dim("\n(Ctrl-D or /bye leaves)") + "\n")
            except CliError as error:
                sys.stderr.write(f"hearth: {error.message}\n")


class Talk:
    """What becomes of what is typed."""

    def __init__(self, client: Client, conversation: Conversation, manner: Manner) -> None:
        self._client = client
        self._conversation = conversation
        self._manner = manner
        self._unanswered: str | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._note(_HELP.rstrip()),
            "/new": self._new,
            "/model": self._model,
            "/system": self._system,
            "/retry": self._retry,
            "/thinking": self._thinking,
            "/verbose": self._verbose,
            "/save": self._save,
            "/load": self._load,
            "/bye": self._bye,
        }

    def take(self, typed: Typed) -> None:
        """Raises CliError, Bye."""
        if not typed.text:
            return
        name, _, rest = typed.text.partition(" ")
        if not typed.may_command or not name.startswith("/"):
            self._ask(typed.text)
        elif name in self._commands:
            self._commands[name](rest.strip())
        else:
            raise CliError(f"there is no {name}; /help tells what there is")

    def complete(self, text: str) -> list[str]:
        """What a line that begins like this may become."""
        if text.startswith("/model "):
            try:
                lines = [f"/model {model['id']}" for model in chat_models(self._client)]
            except CliError:
                return []
        else:
            lines = list(self._commands)
        return [line for line in lines if line.startswith(text)]

    def _ask(self, text: str) -> None:
        """A turn that came to nothing is taken back; of one that was stopped, what was seen stays."""
        conversation, self._unanswered = self._conversation, None
        conversation.asked(text)
        try:
            end = ask(self._client, conversation.request(), self._manner)
        except Interrupted as stopped:
            if stopped.text:
                conversation.answered(stopped.text)
                sys.stdout.write("\n")
            else:
                self._unanswered = conversation.take_back()
            self._note("(stopped)")
        except CliError:
            self._unanswered = conversation.take_back()
            raise
        else:
            conversation.answered(end.text)

    def _new(self, _: str) -> None:
        self._unanswered = None
        self._conversation.messages.clear()
        self._note("a new conversation")

    def _model(self, name: str) -> None:
        known = [str(model["id"]) for model in chat_models(self._client)]
        if not name:
            told = ("* " + each if each == self._conversation.model else "  " + each for each in known)
            self._note("\n".join(told))
            return
        self._conversation.model = str(self._client.get(f"/v1/models/{name}")["id"])
        self._note(f"talking to {self._conversation.model}; what was said stays")

    def _system(self, text: str) -> None:
        self._conversation.system = text or None
        self._note("the model is told so from the next turn on" if text else "the model is told nothing")

    def _retry(self, _: str) -> None:
        question = self._unanswered or self._conversation.take_back()
        if question is None:
            raise CliError("nothing was asked yet")
        self._ask(question)

    def _thinking(self, _: str) -> None:
        self._manner = replace(self._manner, shows_thoughts=not self._manner.shows_thoughts)
        self._note(f"thoughts are {'shown' if self._manner.shows_thoughts else 'hidden'}")

    def _verbose(self, _: str) -> None:
        self._manner = replace(self._manner, is_verbose=not self._manner.is_verbose)
        self._note(f"what an answer took is {'told' if self._manner.is_verbose else 'not told'}")

    def _save(self, path: str) -> None:
        self._conversation.save(_path(path, "/save"))
        self._note(f"kept in {path}")

    def _load(self, path: str) -> None:
        self._conversation.load(_path(path, "/load"))
        turns = sum(message["role"] == "user" for message in self._conversation.messages)
        self._note(f"{turns} turns with {self._conversation.model}")

    def _bye(self, _: str) -> None:
        raise Bye

    def _note(self, text: str) -> None:
        sys.stderr.write(dim(text) + "\n")


def _path(text: str, command: str) -> Path:
    if not text:
        raise CliError(f"{command} wants the name of a file")
    return Path(text)
