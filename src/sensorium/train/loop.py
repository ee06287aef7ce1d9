"""The loop around gradients: a closed world of randomness and threads, one descent step, and averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sensorium.arrays import Floats, threads

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextlib.contextmanager
def reproducible(rng: np.random.Generator) -> Iterator[None]:
    """Inside the block torch draws from a seed taken from `rng`, uses deterministic kernels and `arrays.threads()` threads.

    What torch was set to before is put back. Sums over several threads round differently from one, so the same bytes
    need the same number of threads: set SENSORIUM_THREADS where machines of different width must agree.
    """
    import torch

    seed = int(rng.integers(2**62))
    strict, warn, width = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_num_threads(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads())
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn)
            torch.set_num_threads(width)


class Trains(Protocol):
    """A run of training that can be looked at between epochs."""

    epochs: int

    def epoch(self) -> None: ...

    def model(self) -> Any: ...


def best_epoch(
    training: Trains, value: Callable[[Any], float], *, first: int = 1, patience: int = 3
) -> tuple[int, Any, float]:
    """The epoch whose model has the highest value, that model and its value, in one run of at most `training.epochs`.

    Looked at after `first`, then 1, 2, 3, 4, 5, 7, 9, 12, … epochs; it ends when `patience` looks in a row were no better.

    >>> class Hill:
    ...     epochs, at = 30, 0
    ...     def epoch(self): self.at += 1
    ...     def model(self): return self.at
    >>> best_epoch(Hill(), lambda at: -abs(at - 7))
    (7, 7, 0)
    """
    chosen, kept, height, worse, look = first, None, float("-inf"), 0, first
    for epoch in range(first, training.epochs + 1):
        if epoch:
            training.epoch()
        if epoch < look and epoch < training.epochs:
            continue
        look = max(epoch + 1, round(epoch * 1.35))
        model = training.model()
        reached = value(model)
        if reached > height:
            chosen, kept, height, worse = epoch, model, reached, 0
        else:
            worse += 1
            if worse >= patience:
                break
    return chosen, kept, height


class Descent:
    """AdamW over a module's parameters with a warm-up, clipped gradients, and a running average of the weights.

    The average (Polyak) does what a falling learning rate does, but does not need to know where training will end: so
    the weights after n epochs are the same whether training stops there or goes on, and validation can choose n in one
    run. Vectors and gains (fewer than two dimensions) are not decayed.

    **Source** Loshchilov & Hutter 2019; Polyak & Juditsky 1992.
    """

    def __init__(
        self, module: nn.Module, *, learning_rate: float, weight_decay: float = 0.0, warmup: int = 100,
        average: float = 0.99, clip: float = 1.0,
    ) -> None:  # fmt: skip
        import torch

        self.module, self.learning_rate, self.warmup, self.average, self.clip = (
            module,
            learning_rate,
            warmup,
            average,
            clip,
        )
        self.steps = 0
        parameters = list(module.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self._mean = [p.detach().clone() for p in parameters]

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        import torch

        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, self.steps / max(self.warmup, 1))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()
        # Early on the average follows closely, or the first random weights would stay in it.
        keep = min(self.average, self.steps / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._mean, list(self.module.parameters()), 1 - keep)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The module holds the averaged weights inside the block, and its own again after it."""
        import torch

        own = [p.detach().clone() for p in self.module.parameters()]
        with torch.no_grad():
            for parameter, mean in zip(self.module.parameters(), self._mean, strict=True):
                parameter.copy_(mean)
            try:
                yield
            finally:
                for parameter, value in zip(self.module.parameters(), own, strict=True):
                    parameter.copy_(value)


def weights_of(module: nn.Module) -> dict[str, Floats]:
    """A module's parameters as arrays by name, in the order of the names."""
    return {name: value.detach().numpy().copy() for name, value in sorted(module.state_dict().items())}
