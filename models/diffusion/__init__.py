"""Pictures: what stands between a prompt and its file, as pure functions over arrays and bytes."""
