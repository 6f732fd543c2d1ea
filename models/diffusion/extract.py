"""Take the time MLP out of the checkpoint a UNet was made of: then it can draw in any number of steps.

    python -m models.diffusion.extract unet/diffusion_pytorch_model.safetensors packages/lcm-lora-sdv1-5

The checkpoint must be the base model that was compiled (for AXERA's package: Lykon/dreamshaper-7), for each
base model has a time MLP of its own; LCM-LoRA leaves it as it is. Only its four tensors (4 to 8 MB) are read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import save_file

from models.diffusion.package import TIME_MLP, find_package
from models.diffusion.times import MLP_TENSORS, read_mlp, read_times
from models.manifest import PackageProblem


def extract(checkpoint: Path, directory: Path) -> list[Path]:
    """Write ``time_mlp.safetensors`` beside each UNet in ``directory``; returns the files written.

    Where time inputs are stored already, the MLP must agree with them; nothing is left behind if it does not.

    Raises:
        PackageProblem: the checkpoint has no time MLP, or that of another model; or the package is unusable.
    """
    mlp = read_mlp(checkpoint)
    tensors = (mlp.weight_1, mlp.bias_1, mlp.weight_2, mlp.bias_2)
    written = []
    for variant in find_package(directory).variants:
        target = variant.directory / TIME_MLP
        draft = target.with_name(f".{target.name}.new")
        try:
            save_file(dict(zip(MLP_TENSORS, tensors, strict=True)), draft)
            read_times(variant.time_table, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m models.diffusion.extract", description=__doc__.split("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="the UNet's .safetensors file of the base model")
    parser.add_argument("package", type=Path, help="the directory of the compiled model")
    options = parser.parse_args(arguments)
    try:
        written = extract(options.checkpoint, options.package)
    except (PackageProblem, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.writelines(f"wrote {path}\n" for path in written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
