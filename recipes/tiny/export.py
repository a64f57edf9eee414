"""Make a trained checkpoint ready to ship: fold LoRA into the language model, store float16.

python recipes/tiny/export.py RUN/model biod2c_core/assets/biod2c-tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from biod2c_core.model.checkpoints import fingerprint, load_model, load_processor, save_checkpoint


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    model = load_model(given.source)
    model.merge_lora()
    save_checkpoint(given.target, model.to(torch.float16), load_processor(given.source))
    size = sum(path.stat().st_size for path in given.target.iterdir())
    print(f"{given.target}: {size / 1e6:.1f} MB, {fingerprint(given.target)}")


if __name__ == "__main__":
    main()
