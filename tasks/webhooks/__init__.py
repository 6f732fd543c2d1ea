"""Telling others that something has ended: the words, who wants to know, and what is on its way."""
