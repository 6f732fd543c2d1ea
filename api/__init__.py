"""HTTP in, HTTP out: every dialect is a translation to and from jobs. Loads no model, touches no card."""
