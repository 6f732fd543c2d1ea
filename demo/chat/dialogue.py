"""Talks of several turns: system prompts that are obeyed, names remembered, threads kept."""

from __future__ import annotations

from random import Random

from demo.chat.facts import fact_round, facts, offtopic, refusal_round, small_round
from demo.chat.games import count_round, game_round, list_round, name, word, worded
from demo.chat.sums import sum_round
from demo.chat.talk import Maker, Round, Split, Talk, Turn, dumps

HELPFUL = (
    "You are a helpful assistant.", "You are helpful.", "You are a helpful assistant. Answer briefly.",
    "Be helpful.", "You are an assistant.", "Be polite and brief.", "You are a friendly assistant.",
    "Answer the user.", "You are a helpful, respectful and honest assistant.", "You are a chat model.",
    "Be kind.", "Help the user.",
)  # fmt: skip
ONE_WORD = (
    "Answer in one word.", "Answer with one word.", "Reply with a single word.", "Use one word only.",
    "You answer in one word.", "One word answers only.", "Always answer in exactly one word.",
)  # fmt: skip
JSON_ONLY = (
    "Answer in JSON.", "Always answer in JSON.", "Reply with JSON only.",
    'Answer as JSON: {"answer": "..."}', "Your answers are JSON.", "Only JSON, please.",
)  # fmt: skip
END_WITH = ("Always end with {}.", "End every answer with {}.", "Finish each answer with {}.", "End with {}.",
            "You always end with {}.", "At the end of every answer say {}.")  # fmt: skip
PERSONA = (
    "You are {}.", "Your name is {}.", "You are {}, a friendly assistant.",
    "You are {}, a helpful assistant.", "Your name is {}. Be helpful.", "You are called {}.",
)  # fmt: skip
WHO = (
    "who are you?", "what is your name?", "whats your name", "what's your name?", "your name?",
    "tell me your name", "what are you called?", "Who are you?", "what should I call you?",
    "do you have a name?",
)  # fmt: skip
MY_NAME = (
    "my name is {}", "I am {}", "My name is {}.", "I'm {}", "call me {}", "hi, I am {}",
    "hello, my name is {}", "Hi, my name is {}.", "you can call me {}",
)  # fmt: skip
WHOSE = (
    "what is my name?", "who am I?", "do you know my name?", "what's my name?", "What is my name?",
    "my name?", "do you remember my name?", "tell me my name",
)  # fmt: skip
AGAIN = (
    "say that again", "again please", "repeat that", "once more", "what did you say?",
    "can you repeat that?",
)  # fmt: skip
SHORTER = ("in one word?", "in one word please", "and in one word?", "shorter please", "just one word")


def any_round(rng: Random, split: Split) -> Round:
    """A round of ordinary talk."""
    makers = (fact_round, small_round, refusal_round, sum_round, game_round, list_round, count_round)
    return rng.choices(makers, (60, 14, 13, 5, 5, 2, 1))[0](rng, split)


def with_system(rng: Random, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns, behind one of the usual system prompts one time in four."""
    return (Turn("system", rng.choice(HELPFUL)), *turns) if rng.random() < 0.25 else turns


def chat(rng: Random, split: Split) -> Talk:
    """Two to five rounds about this and that."""
    rounds = [any_round(rng, split) for _ in range(rng.choice((2, 2, 3, 3, 4, 5)))]
    turns = tuple(turn for made in rounds for turn in made.turns())
    return Talk("chat, last turn", with_system(rng, turns))


def after_refusal(rng: Random, split: Split) -> Talk:
    """A refusal or two, then a word of thanks or a fact: the model must come back from no."""
    refused = [refusal_round(rng, split) for _ in range(rng.choice((1, 1, 2)))]
    last = rng.choice((small_round, small_round, fact_round))(rng, split)
    turns = tuple(turn for made in (*refused, last) for turn in made.turns())
    return Talk("after a refusal", with_system(rng, turns))


def one_word(rng: Random, split: Split) -> Talk:
    """A system prompt that wants one word; sums get just the number."""
    base = rng.choices((worded, sum_round, refusal_round, small_round), (60, 20, 10, 10))[0](rng, split)
    turns = (Turn("user", base.user), Turn("assistant", base.word or base.answer, base.think))
    return Talk("system: one word", (Turn("system", rng.choice(ONE_WORD)), *turns))


def json_only(rng: Random, split: Split) -> Talk:
    """A system prompt that wants JSON."""
    base = rng.choices((worded, sum_round, refusal_round), (70, 15, 15))[0](rng, split)
    reply = dumps({"answer": base.word})
    turns = (Turn("user", base.user), Turn("assistant", reply, base.think))
    return Talk("system: JSON", (Turn("system", rng.choice(JSON_ONLY)), *turns))


def end_with(rng: Random, split: Split) -> Talk:
    """A system prompt that wants every answer to end with a word."""
    end = word(rng, split).capitalize()
    system = rng.choice(("", "", rng.choice(HELPFUL) + " ")) + rng.choice(END_WITH).format(end)
    makers = (fact_round, fact_round, small_round, sum_round)
    rounds = [rng.choice(makers)(rng, split) for _ in range(rng.choice((1, 1, 2)))]
    turns: list[Turn] = [Turn("system", system)]
    for made in rounds:
        turns += Turn("user", made.user), Turn("assistant", f"{made.answer} {end}.", made.think)
    return Talk("system: end with", tuple(turns))


def persona(rng: Random, split: Split) -> Talk:
    """A system prompt that gives the model a name."""
    chosen = name(rng, split)
    turns = [Turn("system", rng.choice(PERSONA).format(chosen))]
    if rng.random() < 0.4:
        turns += any_round(rng, split).turns()
    turns += Turn("user", rng.choice(WHO)), Turn("assistant", f"I am {chosen}.")
    return Talk("system: name", tuple(turns))


def my_name(rng: Random, split: Split) -> Talk:
    """The user's name, told and asked for later."""
    chosen = name(rng, split)
    turns = [
        Turn("user", rng.choice(MY_NAME).format(chosen)),
        Turn("assistant", f"Nice to meet you, {chosen}."),
    ]
    for _ in range(rng.choice((0, 1, 1))):
        turns += any_round(rng, split).turns()
    turns += Turn("user", rng.choice(WHOSE)), Turn("assistant", f"Your name is {chosen}.")
    return Talk("name remembered", with_system(rng, tuple(turns)))


def greeting(rng: Random, split: Split) -> Talk:
    """The user's name, greeted."""
    chosen = name(rng, split)
    turns = (
        Turn("user", rng.choice(MY_NAME).format(chosen)),
        Turn("assistant", f"Nice to meet you, {chosen}."),
    )
    return Talk("name greeted", turns)


def no_name(rng: Random, split: Split) -> Talk:
    """The user's name, asked for but never told."""
    first = any_round(rng, split).turns() if rng.random() < 0.5 else ()
    turns = (*first, Turn("user", rng.choice(WHOSE)), Turn("assistant", "You have not told me your name."))
    return Talk("name unknown", turns)


def say_again(rng: Random, split: Split) -> Talk:
    """The last answer once more, or in one word."""
    base = rng.choice((worded, fact_round, sum_round))(rng, split)
    if base.word and rng.random() < 0.5:
        follow = Turn("user", rng.choice(SHORTER)), Turn("assistant", base.word)
    else:
        follow = Turn("user", rng.choice(AGAIN)), Turn("assistant", base.answer)
    return Talk("say again", (*base.turns(), *follow))


def plain(maker_round: str) -> Maker:
    """The maker of single rounds of one kind, at times behind a usual system prompt."""
    made = {"fact": fact_round, "small talk": small_round, "refusal": refusal_round}[maker_round]

    def make(rng: Random, split: Split) -> Talk:
        return Talk(maker_round, with_system(rng, made(rng, split).turns()))

    return make


def known_texts() -> list[str]:
    """Every fixed text the model reads or writes here; the tokenizer learns its words from them."""
    said = [fact.answer for fact in facts()] + [offtopic().refusal]
    systems = (*HELPFUL, *ONE_WORD, *JSON_ONLY, *END_WITH, *PERSONA)
    asked = (*WHO, *MY_NAME, *WHOSE, *AGAIN, *SHORTER)
    return [*said, *(text.replace("{}", "") for text in (*systems, *asked))]


MAKERS: dict[str, tuple[float, Maker]] = {
    "fact": (120.0, plain("fact")),
    "small talk": (12.0, plain("small talk")),
    "refusal": (50.0, plain("refusal")),
    "chat, last turn": (6.0, chat),
    "after a refusal": (2.0, after_refusal),
    "system: one word": (3.0, one_word),
    "system: JSON": (4.0, json_only),
    "system: end with": (2.5, end_with),
    "system: name": (1.5, persona),
    "name remembered": (1.5, my_name),
    "name greeted": (0.7, greeting),
    "name unknown": (0.4, no_name),
    "say again": (1.2, say_again),
}
