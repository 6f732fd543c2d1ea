"""What can go wrong between us and a card.

HardwareError
├── CardLost          the card left the bus, or was declared lost after a timeout
├── CardTimeout       no answer in the time allowed; the card is then lost too
├── CardBusy          another process owns the card
├── OutOfCardMemory   the card has not enough CMM for what was asked
├── GraphRejected     a file is not a graph this card can run
└── FeedMismatch      a name, shape, dtype, size or address departs from the graph's contract
"""


class HardwareError(Exception):
    """Root of everything a card can raise."""


class CardLost(HardwareError):
    """The card left the bus. The process's card is poisoned: every later call raises this at once."""


class CardTimeout(HardwareError):
    """A call gave no answer within its ``timeout_s``. What it did is unknown, so the card counts as lost."""


class CardBusy(HardwareError):
    """Another process holds the card's lock."""


class OutOfCardMemory(HardwareError):
    """The card's memory (CMM) cannot hold what was asked; nothing was taken."""


class GraphRejected(HardwareError):
    """The file is missing, truncated, or not a graph that this card runs."""


class FeedMismatch(HardwareError):
    """A tensor's name, shape, dtype, size or address departs from what the graph demands."""
