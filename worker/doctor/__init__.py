"""``hearth doctor``: all a machine needs to serve, looked at one by one, each fault with its remedy."""
