"""One prediction as a PyTorch program makes it: `python -m quillrt.benchmarks.thin_torch CHECKPOINT MEAN STD IMAGE`."""

from __future__ import annotations

import sys

import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms

from quillrt.train.models import build_model


def main() -> None:
    """Print the class of an image of 28 x 28 by the digits' network."""
    checkpoint, mean, std, image = sys.argv[1:]
    network = build_model("quillnet", 10)
    network.load_state_dict(load_file(checkpoint))
    network.eval()
    recipe = transforms.Compose(
        [transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize((float(mean),), (float(std),))]
    )
    with torch.inference_mode():
        logits = network(recipe(Image.open(image))[None])  # (1, 10)
    sys.stdout.write(f"{logits.argmax().item()}\n")


if __name__ == "__main__":
    main()
