"""Losses, as plain functions of tensors. Torch is imported by whoever holds the tensors, hence inside the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def softmax_loss(
    hidden: Tensor,
    table: Tensor,
    positives: Tensor,
    targets: Tensor,
    shares: Tensor,
    rows: Tensor,
    log_chance: Tensor | None,
) -> Tensor:
    """Cross-entropy of each position against all items, or against a corrected sample of them.

    A position may have several right answers (what came next, and after that), each with its share. With a sample
    each answer competes with the negatives alone: the score of a negative is lowered by the log of its chance to have
    been drawn, the answer's own is not (it was certain to be there), and a negative that is an answer is left out.

    **Shapes** hidden (N, D); table (K, D): vectors of the items `rows` (K,); positives (N, A, D): vectors of the
    answers; targets (N, A): their rows, −1 where there is none; shares (N, A), 0 there; log_chance (K,) or None for
    the exact softmax. → a number: the mean over positions, weighted by their shares.
    **Cost** N·K·D multiply-adds, three times with the gradient; the sum over A shares the one pass over K.
    """
    import torch

    scores = hidden @ table.T
    right = torch.einsum("nd,nad->na", hidden, positives)
    if log_chance is None:
        whole = torch.logsumexp(scores, dim=1, keepdim=True)
    else:
        scores = scores - log_chance
        hit, column = _places(targets, rows)
        blocked = torch.zeros_like(scores, dtype=torch.bool)
        blocked[hit.nonzero(as_tuple=True)[0], column[hit]] = True
        whole = torch.logsumexp(scores.masked_fill(blocked, float("-inf")), dim=1, keepdim=True)
        whole = torch.logaddexp(whole, right)
    return ((whole - right) * shares).sum() / shares.sum().clamp_min(1e-6)


def _places(targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each target is among the ascending rows, and in which column."""
    import torch

    column = torch.searchsorted(rows, targets).clamp_max(len(rows) - 1)
    return rows[column] == targets, column


def info_nce(left: Tensor, right: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Contrastive loss of pairs, in both directions: row b of `left` belongs to row b of `right`, to no other.

    `same` (B, B) marks pairs outside the diagonal that belong together as well (the same item twice in a batch); they
    are left out of the competition. Rows should have length one; `scale` is the inverse temperature.

    **Source** van den Oord et al. 2018; both directions as in CLIP, Radford et al. 2021.
    """
    import torch

    scores = left @ right.T * scale
    if same is not None:
        diagonal = torch.eye(len(scores), dtype=torch.bool)
        scores = scores.masked_fill(same & ~diagonal, float("-inf"))
    label = torch.arange(len(scores))
    forth = torch.nn.functional.cross_entropy(scores, label)
    return (forth + torch.nn.functional.cross_entropy(scores.T, label)) / 2
