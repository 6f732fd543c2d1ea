"""``hearth chat`` and ``hearth image``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import ApiKey, AskedModel, Json, Url


def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="Without one: stdin when piped, else a conversation.")
    ] = None,
    model: AskedModel = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Length of the answer at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--hide-thinking", help="Show what the model thinks; default: on a terminal."
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell what each answer took: tokens/s, queue.")
    ] = False,
    history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history",
            envvar="HEARTH_CHAT_HISTORY",
            help="Keep what is typed in a conversation, in ~/.local/state/hearth/chat-history.",
        ),
    ] = True,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask a model; the answer streams to stdout, what happens meanwhile to stderr.

    Without a prompt, in a terminal, it is a conversation: /help there tells more.
    """
    from cli.ask import Manner
    from cli.chat import Question, chat, history_file
    from cli.client import Client

    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    question = Question(model, system, {name: value for name, value in options.items() if value is not None})
    shows = sys.stderr.isatty() if thinking is None else thinking
    manner = Manner(as_json=as_json, shows_thoughts=shows, is_verbose=verbose)
    with Client(url, api_key) as client:
        chat(client, question, prompt, manner, history_file() if history else None)


def image(
    prompt: Annotated[str, typer.Argument(help="What is to be seen.")],
    model: AskedModel = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, one of the model's sizes.")] = None,
    steps: Annotated[int | None, typer.Option(help="One of the model's numbers of steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same picture.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="What is not to be seen; needs --guidance above 1.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="1 to 2; above 1 takes twice as long.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="A picture to start from.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of --from is drawn anew; default 0.75.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where this picture is white, --from is drawn anew.")
    ] = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="How many pictures.")] = None,
    picture_format: Annotated[str | None, typer.Option("--format", help="png, jpeg or webp.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A directory, a file, or - for stdout; default: here.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Draw a picture and save it; its path goes to stdout, what happens meanwhile to stderr."""
    from cli.client import Client
    from cli.files import Place
    from cli.image import Wish, image

    options = {
        "model": model,
        "size": size,
        "steps": steps,
        "seed": seed,
        "negative_prompt": negative,
        "guidance_scale": guidance,
        "strength": strength,
        "n": number,
        "format": picture_format,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Client(url, api_key) as client:
        wish = Wish(prompt, given, source, mask)
        raise typer.Exit(image(client, wish, Place(out), as_json=as_json))
