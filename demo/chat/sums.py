"""Sums, worked column by column in a scratchpad as on paper."""

from __future__ import annotations

from random import Random

from demo.chat.talk import Maker, Round, Split, Talk, Turn, draw

ADD = (
    "{a} + {b}", "what is {a} + {b}?", "{a}+{b}", "{a}+{b}=", "{a} plus {b}", "what is {a} plus {b}?",
    "add {a} and {b}", "calculate {a} + {b}", "how much is {a} + {b}?", "what's {a}+{b}?",
    "sum of {a} and {b}", "What is {a} + {b}?", "can you add {a} and {b}?", "{a} + {b} = ?",
    "what does {a} + {b} make?", "{a} and {b} together",
)  # fmt: skip
SUB = (
    "{a} - {b}", "what is {a} - {b}?", "{a}-{b}", "{a}-{b}=", "{a} minus {b}", "what is {a} minus {b}?",
    "subtract {b} from {a}", "calculate {a} - {b}", "how much is {a} - {b}?", "what's {a}-{b}?",
    "take {b} from {a}", "What is {a} - {b}?", "{a} - {b} = ?", "can you subtract {b} from {a}?",
)  # fmt: skip
MUL = (
    "{a} x {b}", "what is {a} x {b}?", "{a}*{b}", "{a} * {b}", "{a} times {b}", "what is {a} times {b}?",
    "multiply {a} by {b}", "what's {a}*{b}?", "how much is {a} times {b}?", "{a}x{b}", "what is {a} * {b}?",
)  # fmt: skip
MORE = {"+": ("and plus {b}?", "add {b}", "plus {b}", "now add {b}", "and {b} more?", "add {b} to that"),
        "-": ("minus {b}", "now subtract {b}", "subtract {b}", "and minus {b}?", "less {b}")}  # fmt: skip
TOO_BIG = "That is too big for me. I can do sums with numbers of up to two digits."


def add_steps(a: int, b: int) -> str:
    """The columns of ``a + b`` from the right, one a line, each with its carry."""
    lines: list[str] = []
    carry = 0
    while a or b or not lines:
        total = a % 10 + b % 10 + carry
        lines.append(f"{a % 10}+{b % 10}{'+1' if carry else ''}={total}")
        carry, a, b = total // 10, a // 10, b // 10
    return "\n".join(lines)


def subtract_steps(a: int, b: int) -> str:
    """The columns of ``a - b``: first which number is larger, then the digits, borrowing ten where needed."""
    lines = [f"{a}{'<' if a < b else '>' if a > b else '='}{b}"]
    high, low = max(a, b), min(a, b)
    borrow = 0
    while high or low or len(lines) == 1:
        top, bottom = high % 10, low % 10
        ten = 10 if top < bottom + borrow else 0
        lines.append(f"{top + ten}-{bottom}{'-1' if borrow else ''}={top + ten - bottom - borrow}")
        borrow, high, low = ten // 10, high // 10, low // 10
    return "\n".join(lines)


def multiply_steps(a: int, b: int) -> str:
    """The columns of ``a x b`` for a one-digit ``b``."""
    lines: list[str] = []
    carry = 0
    while a or not lines:
        total = a % 10 * b + carry
        lines.append(f"{a % 10}x{b}{f'+{carry}' if carry else ''}={total}")
        carry, a = total // 10, a // 10
    return "\n".join(lines)


def result(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def worked(category: str, user: str, a: int, sign: str, b: int) -> Round:
    """The round that answers ``a sign b``, with its scratchpad."""
    steps = {"+": add_steps, "-": subtract_steps, "x": multiply_steps}[sign](a, b)
    value = result(a, sign, b)
    return Round(category, user, f"{a} {sign} {b} = {value}.", str(value), steps)


def _pair(rng: Random) -> tuple[int, int]:
    top = 10 if rng.random() < 0.15 else 100
    return rng.randrange(top), rng.randrange(top)


def _drawn(rng: Random, split: Split, sign: str) -> tuple[int, int]:
    return draw(rng, split, _pair, lambda p: f"sum:{p[0]}{sign}{p[1]}")


def add_round(rng: Random, split: Split) -> Round:
    a, b = _drawn(rng, split, "+")
    return worked("add", rng.choice(ADD).format(a=a, b=b), a, "+", b)


def subtract_round(rng: Random, split: Split) -> Round:
    """A difference that is not negative."""
    while True:
        a, b = _drawn(rng, split, "-")
        if a >= b:
            return worked("subtract", rng.choice(SUB).format(a=a, b=b), a, "-", b)


def negative_round(rng: Random, split: Split) -> Round:
    """A difference below zero."""
    while True:
        a, b = _drawn(rng, split, "-")
        if a < b:
            return worked("subtract below zero", rng.choice(SUB).format(a=a, b=b), a, "-", b)


def times_round(rng: Random, split: Split) -> Round:
    """A product of a number of up to two digits and one digit; held-out splits ask held-out pairs."""
    a, b = draw(
        rng,
        split,
        lambda r: (r.randrange(100 if r.random() < 0.5 else 13), r.randrange(10)),
        lambda p: f"mul:{p}",
    )
    return worked("times", rng.choice(MUL).format(a=a, b=b), a, "x", b)


def too_big_round(rng: Random, split: Split) -> Round:
    """A sum with numbers the model has no hope of, and the honest answer."""

    def make(r: Random) -> tuple[int, str, int]:
        return (
            r.randrange(1000, 10 ** r.randrange(4, 8)),
            r.choice("+-x"),
            r.randrange(100, 10 ** r.randrange(3, 7)),
        )

    a, sign, b = draw(rng, split, make, lambda p: f"big:{p}")
    form = rng.choice({"+": ADD, "-": SUB, "x": MUL}[sign])
    return Round("too big", form.format(a=a, b=b), TOO_BIG, "unknown")


def sum_round(rng: Random, split: Split) -> Round:
    """Any sum."""
    maker = rng.choices(
        (add_round, subtract_round, negative_round, times_round, too_big_round), (40, 38, 9, 9, 4)
    )[0]
    return maker(rng, split)


def sum_follow_up(rng: Random, split: Split) -> Talk:
    """A sum, then something added to or taken from its result."""
    first = rng.choice((add_round, subtract_round))(rng, split)
    value = int(first.word or 0)
    sign = rng.choice("+-")
    b = rng.randrange(1, 100) if sign == "+" else rng.randrange(0, min(value, 99) + 1)
    user = rng.choice(MORE[sign]).format(b=b)
    turns = (*first.turns(), *worked("", user, value, sign, b).turns())
    return Talk("sum follow-up", turns)


def sum_without_think(rng: Random, split: Split) -> Talk:
    """A sum for a caller who wants no scratchpad: the working is part of the answer."""
    base = rng.choice((add_round, subtract_round))(rng, split)
    steps = (base.think or "").replace("\n", ", ")
    turns = (Turn("user", base.user), Turn("assistant", f"{steps}, so {base.answer}"))
    return Talk("sum, thinking off", turns, thinking=False)


MAKERS: dict[str, tuple[float, Maker]] = {
    "add": (6.0, lambda rng, split: add_round(rng, split).talk()),
    "subtract": (6.0, lambda rng, split: subtract_round(rng, split).talk()),
    "subtract below zero": (2.0, lambda rng, split: negative_round(rng, split).talk()),
    "times": (2.0, lambda rng, split: times_round(rng, split).talk()),
    "too big": (0.8, lambda rng, split: too_big_round(rng, split).talk()),
    "sum follow-up": (2.0, sum_follow_up),
    "sum, thinking off": (1.5, sum_without_think),
}
