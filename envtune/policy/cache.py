"""Keys and values of many sequences of different lengths, in one store that is written in place.

A forward pass works on a contiguous window of slots, so neither decoding nor reading copies the cache, and an unused
slot costs nothing. transformers' own caches cannot do this: `DynamicCache` copies everything for every token and pads
rows to a common length, and `StaticCache` has one length for all rows.

Shapes: L layers, S slots, T positions, H key/value heads, D head size, n rows of a window, q new tokens per row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class SlotCache:
    """The `past_key_values` of a transformers model. Position t of slot s holds token t of its sequence.

    Set the window with `select`, then call the model: it writes the q new tokens of each row at the row's own start and
    attends to the slots' first `width` positions. The caller masks what lies beyond each row's length.
    """

    def __init__(self, layers: int, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self._store = torch.zeros(layers, 2, 0, heads, 0, head_dim, dtype=dtype, device=device)
        """(L, 2, S, H, T, D). Zeros, not `empty`: a masked position still enters a product, and 0 * NaN is NaN."""

    def reserve(self, slots: int, length: int) -> None:
        """Make room for `slots` sequences of `length` tokens. The first `slots` keep their content."""
        _, _, s, _, t, _ = self._store.shape
        if slots <= s and length <= t:
            return
        new_s = slots if slots <= s else max(slots, s + s // 2)  # unused slots are not copied
        new_t = t if length <= t else max(length, t + t // 2)
        shape = list(self._store.shape)
        shape[2], shape[4] = new_s, new_t
        grown = torch.zeros(shape, dtype=self._store.dtype, device=self._store.device)
        kept = min(s, new_s)
        grown[:, :, :kept, :, :t] = self._store[:, :, :kept]
        self._store = grown

    def select(self, first: int, starts: Sequence[int], new: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The window: slot `first` and those after it, one per entry of `starts`, each getting `new` tokens.

        Returns:
            Position ids (n, q) and the boolean attention mask (n, 1, q, width).
        """
        device = self._store.device
        self._window = slice(first, first + len(starts))
        start = torch.tensor(starts, device=device)
        self._positions = start[:, None] + torch.arange(new, device=device)
        self._rows = torch.arange(len(starts), device=device)[:, None]
        self._width = max(starts) + new
        seen = torch.arange(self._width, device=device) <= self._positions[:, :, None]
        return self._positions, seen[:, None]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention: store (n, H, q, D), return the window's (n, H, width, D)."""
        views = []
        for kind, new in enumerate((keys, values)):
            window = self._store[layer, kind, self._window]
            window[self._rows, :, self._positions] = new.transpose(1, 2).to(window.dtype)  # autocast may change it
            views.append(window[:, :, : self._width])
        return views[0], views[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Longest sequence before the current call. The model asks only if it is given no position ids."""
        return self._width - self._positions.shape[1]

    def swap(self, a: int, b: int, length: int) -> None:
        """Exchange the first `length` positions of two slots."""
        first, second = (self._store[:, :, slot, :, :length] for slot in (a, b))
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Give `targets` the first `length` positions of `source`."""
        self._store[:, :, list(targets), :, :length] = self._store[:, :, source : source + 1, :, :length]
