"""A card made of software: onnxruntime behind the seam of ``hardware.card``. See docs/virtual-card.md."""
