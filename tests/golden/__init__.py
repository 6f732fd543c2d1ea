"""Answers of other people's code, made once by the scripts beside them, and what is needed to ask again."""
