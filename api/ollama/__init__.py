"""Ollama's dialect: what Home Assistant, Open WebUI, Continue and Ollama's own SDK speak."""
