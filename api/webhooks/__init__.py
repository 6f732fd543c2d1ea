"""Webhooks: who may be told, how they are told, and the endpoints that are registered."""
