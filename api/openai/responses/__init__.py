"""OpenAI's Responses: chat jobs that are told in items, and found again by their ids."""
