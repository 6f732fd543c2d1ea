"""Settings: every value an operator may change, once, with its type, default, unit and a sentence."""
