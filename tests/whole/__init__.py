"""The whole: `hearth up`, real processes, real clients."""
