"""From one generated batch to micro-batches, without rows that teach nothing and without the batch's padding.

TRL pads all rows to the longest prompt and the longest completion, shuffles them and splits them. If the loss is a mean
over the tokens of the whole batch, neither the order of the rows nor padding changes the gradient. (An entropy bonus is
the exception: the order matters, because TRL takes its mean per micro-batch.) So rows of similar length go together and
each micro-batch is trimmed to its own longest row. Shapes: B rows, P prompt and C completion positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

Batch = dict[str, torch.Tensor]


def loss_mask(batch: Batch) -> torch.Tensor:
    """(B, C), 1 where a token enters the loss."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def micro_batches(batch: Batch, n: int, live: torch.Tensor, total: torch.Tensor, rows: int = 0) -> list[Batch]:
    """`n` micro-batches of the rows that are `live` (B), their loss divided by `total` tokens.

    Rows are sorted by length. Every process must run the same number of passes over the same number of rows, because
    TRL gathers numbers from each pass. Where there are fewer live rows, the shortest row of all fills in, without loss.

    Args:
        batch: B generated rows.
        n: micro-batches.
        live: (B), rows that enter the loss.
        total: tokens of all processes that enter the loss.
        rows: the most live rows that any process has, at least as many as here.
    """
    lengths = batch["prompt_mask"].sum(1) + batch["completion_mask"].sum(1)
    order = sorted(torch.nonzero(live)[:, 0].tolist(), key=lambda row: int(lengths[row]))
    filler = int(lengths.argmin())
    missing = max(0, rows - len(order))
    chunks = torch.tensor_split(torch.tensor([filler] * missing + order, dtype=torch.long), n)
    result = []
    for chunk in chunks:
        without_loss = min(missing, len(chunk))
        missing -= without_loss
        if not len(chunk):
            chunk, without_loss = torch.tensor([filler]), 1
        part = _rows(batch, chunk)
        if without_loss:
            part["tool_mask"] = loss_mask(part).clone()
            part["tool_mask"][:without_loss] = 0
            part["advantages"][:without_loss] = 0
        part = _trim(part)
        part["num_items_in_batch"] = total
        result.append(part)
    return result


def without_padding(
    order: torch.Tensor, size: int, attention_mask: torch.Tensor, width: int
) -> Iterator[tuple[torch.Tensor, slice, int]]:
    """Some rows of a generated batch, `size` at a time, without the columns that only hold padding.

    Args:
        order: numbers of the rows.
        attention_mask: (B, P + C).
        width: C.

    Yields:
        The numbers of up to `size` rows, the columns that they use, and how many of these are completion.
    """
    for rows in order.split(size):
        used = attention_mask[rows].any(0).nonzero()[:, 0]
        window = slice(int(used[0]), int(used[-1]) + 1)
        yield rows, window, window.stop - (attention_mask.shape[1] - width)


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    rows = rows.to(batch["completion_ids"].device)
    return {key: value[rows] for key, value in batch.items() if value.dim()}


def _trim(batch: Batch) -> Batch:
    """Drop prompt columns on the left and completion columns on the right that only hold padding."""
    prompt = int(batch["prompt_mask"].sum(1).max())
    completion = int(batch["completion_mask"].sum(1).max())
    width = batch["completion_ids"].shape[1]
    trimmed = {}
    for key, value in batch.items():
        if key in ("prompt_ids", "prompt_mask"):
            trimmed[key] = value[:, value.shape[1] - prompt :]
        elif value.dim() == 2 and value.shape[1] == width:
            trimmed[key] = value[:, :completion]
        else:
            trimmed[key] = value
    return trimmed
