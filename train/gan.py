"""Training a conditional GAN on few or many images, and drawing new ones with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from quillrt.runtime.errors import DataError, QuillError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.progress import Track, no_progress

from .averaging import averaged
from .devices import choose_device
from .diff_augment import diff_augment
from .diversity import shortfall, spread
from .gan_config import GanConfig
from .gan_networks import NOISE, Discriminator, Generator
from .seeding import seeded

_BETAS = (0.5, 0.99)  # of Adam; the first is that of Radford et al., arXiv 1511.06434
_FALL = 0.3  # share of the steps, the last ones, over which the learning rate falls to zero
_DECAY = 0.998  # of the moving average of the generator's weights
_ALIKE_WEIGHT = 2.0  # of images of one class that are too much alike, against the verdict
_CHECK_STEPS = 50  # between two looks at the losses
_DRAW_BATCH = 500  # images per forward pass where no gradient is kept


@dataclass(frozen=True)
class Gan:
    """A trained generator.

    Attributes:
        generator: in eval mode, on the CPU; its weights are averages over the last part of the training.
        classes: the labels it can draw.
        seconds: what the training took.
    """

    generator: Generator
    classes: tuple[str, ...]
    seconds: float

    @torch.no_grad()
    def draw(self, count: int, seed: int) -> ImageSet:
        """Return ``count`` new images of each class, class by class; the same ones for the same seed."""
        labels = torch.arange(len(self.classes)).repeat_interleave(count)  # (K * count,)
        with seeded(seed):
            noise = torch.randn(len(labels), NOISE)
        pairs = zip(torch.split(noise, _DRAW_BATCH), torch.split(labels, _DRAW_BATCH), strict=True)
        images = torch.cat([self.generator(*pair) for pair in pairs])[:, 0]  # (K * count, H, W) of -1..1
        grey = ((images + 1) * 127.5).round().to(torch.uint8)
        return ImageSet(grey.numpy(), labels.numpy(), self.classes)


def train_gan(images: ImageSet, config: GanConfig, track: Track = no_progress) -> Gan:
    """Train a conditional GAN on ``images`` from fresh weights.

    The discriminator's losses are hinges: Lim, Ye, "Geometric GAN", arXiv 1705.02894.

    Raises:
        SpecError: the networks do not take images of this size.
        DataError: a class has no image.
        BackendUnavailable: the device is not there.
        QuillError: the training diverged.
    """
    sizes = np.bincount(images.labels, minlength=len(images.classes))
    if lacking := [name for name, size in zip(images.classes, sizes, strict=True) if not size]:
        raise DataError(f"expected images of every class, found none of {', '.join(lacking)}; leave these classes out")
    device = choose_device(config.device)
    started = time.perf_counter()
    with seeded(config.seed):
        generator = _train(images, config, track, device)
    if not all(tensor.isfinite().all() for tensor in generator.state_dict().values()):
        raise _diverged(config, config.steps)
    return Gan(generator, images.classes, time.perf_counter() - started)


def _train(images: ImageSet, config: GanConfig, track: Track, device: torch.device) -> Generator:
    classes, (height, width) = len(images.classes), images.images.shape[1:]
    generator, discriminator = Generator(classes, height, width), Discriminator(classes, height, width)
    for module in (generator, discriminator):
        module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = averaged(generator, _DECAY)
    optimizers = [torch.optim.Adam(module.parameters(), config.lr, _BETAS) for module in (discriminator, generator)]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: min(1, (1 - step / config.steps) / _FALL))
        for each in optimizers
    ]
    quick = torch.autocast(device.type, torch.bfloat16, enabled=_has_quick_bf16(device))
    pixels = torch.from_numpy(images.images).to(device)[:, None]
    real_spread = spread(pixels, torch.from_numpy(images.labels).to(device), classes)

    for step, (chosen, labels) in enumerate(track(_batches(images, config), "steps", config.steps), 1):
        real, real_labels = pixels[chosen].float() / 127.5 - 1, labels.to(device)
        fake_labels = torch.randint(classes, (config.batch_size // 2,), device=device).repeat_interleave(2)
        with quick:
            fake = generator(torch.randn(config.batch_size, NOISE, device=device), fake_labels)
        fake = fake.float()

        discriminator.requires_grad_(True)
        seen = diff_augment(torch.cat([real, fake.detach()]))
        with quick:
            on_real, on_fake = discriminator(seen, torch.cat([real_labels, fake_labels])).float().chunk(2)
        loss = functional.relu(1 - on_real).mean() + functional.relu(1 + on_fake).mean()
        _update(optimizers[0], schedules[0], loss)

        discriminator.requires_grad_(False)
        with quick:
            verdicts = discriminator(diff_augment(fake), fake_labels).float()
        alike = shortfall(fake, fake_labels, real_spread)
        _update(optimizers[1], schedules[1], _ALIKE_WEIGHT * alike - verdicts.mean())
        average.update_parameters(generator)
        if step % _CHECK_STEPS == 0 and not loss.isfinite():
            raise _diverged(config, step)
    generator.load_state_dict(average.module.state_dict())
    generator.to("cpu").eval()
    return generator


def _has_quick_bf16(device: torch.device) -> bool:
    """Tell whether products are faster in bfloat16 than in float32 there, as on a CPU with AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # An early torch does not have it: float32 then, which is right everywhere.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def _batches(images: ImageSet, config: GanConfig) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield indices of images and their labels; every class has the same chance, however many images it has."""
    by_class = torch.from_numpy(images.labels.argsort(kind="stable"))
    sizes = torch.from_numpy(np.bincount(images.labels, minlength=len(images.classes)))
    first = sizes.cumsum(0) - sizes
    for _ in range(config.steps):
        labels = torch.randint(len(sizes), (config.batch_size,))
        inside = (torch.rand(config.batch_size, dtype=torch.float64) * sizes[labels]).long()
        yield by_class[first[labels] + inside], labels


def _update(
    optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: torch.Tensor
) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    schedule.step()


def _diverged(config: GanConfig, step: int) -> QuillError:
    return QuillError(
        f"expected finite losses, found none by step {step}: the GAN diverged; "
        f"lower the learning rate (--lr, now {config.lr})"
    )
