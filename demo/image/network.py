"""The networks as torch modules: text encoder, UNet and decoder. Only training and export need torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo.image.latents import BLOCK, CHANNELS, plain_colours
from demo.image.pictures import SIZE

TOKENS = 77
WIDTH = 128
"""Of the text encoder's rows and of the time input."""
QUESTIONS = 5
"""Which figure, its colour, the background, how large and where."""
HIDDEN = -1e4
"""Added to a score, it leaves no weight."""
FAINT = 0.2
"""Deviation of a latent's channel below which it counts as noise."""
ALIKE = 0.08
"""How far apart two colours may be and count as one that wavers, of 2 from black to white."""
_AROUND = tuple((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))
SIDE = SIZE // BLOCK
"""Of a latent."""


class TextLayer(nn.Module):
    """Attention and a feed-forward part, each behind a norm; every token sees every other."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm_1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + hidden, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x))))


class TextEncoder(nn.Module):
    """int64[n, tokens] to float32[n, tokens, 128]; tokens behind the first end mark give rows of zeros.

    Nothing looks at what is behind the end, so training may cut it off.
    """

    def __init__(self, vocabulary: int, layers: int = 2) -> None:
        super().__init__()
        self.end = vocabulary - 1
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.1)
        self.layers = nn.ModuleList(TextLayer(WIDTH) for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        ends = (ids == self.end).to(torch.float32)
        behind = ((ends.cumsum(1) - ends) > 0).to(torch.float32)
        x = self.tokens(ids) + self.places[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, behind[:, None, None] * HIDDEN)
        return self.norm(x) * (1 - behind)[..., None]


class Reader(nn.Module):
    """Five questions to all tokens: float32[n, tokens, 128] to float32[n, 5, 128]. Zeros are no token."""

    def __init__(self, questions: int = QUESTIONS) -> None:
        super().__init__()
        self.questions = nn.Parameter(torch.randn(questions, WIDTH) * 0.1)
        self.key = nn.Linear(WIDTH, WIDTH)

    def forward(self, text: Tensor) -> Tensor:
        hidden = (text.abs().sum(-1) == 0).to(torch.float32)[:, None] * HIDDEN
        scores = self.questions @ self.key(text).transpose(-1, -2)
        return torch.softmax(scores + hidden, dim=-1) @ text


class Block(nn.Module):
    """Two convolutions, told about text and time by a scale and a shift between them."""

    def __init__(self, inside: int, outside: int, told: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(8, inside), nn.GroupNorm(8, outside, affine=False)
        self.conv_1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv_2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.told = nn.Linear(told, 2 * outside)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.told.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[..., None, None].chunk(2, dim=1)
        h = self.norm_2(self.conv_1(functional.silu(self.norm_1(x))))
        return self.skip(x) + self.conv_2(functional.silu(h * (1 + scale) + shift))


class Unet(nn.Module):
    """Predicts v from a noisy latent, a time input and the text.

    The text is read into one vector, which steers every block. At the two coarser levels it also paints a
    first draft, by a plain linear map, so that a figure can come out of noise that says nothing.
    """

    def __init__(self, widths: tuple[int, int, int] = (64, 96, 160), told: int = 256) -> None:
        super().__init__()
        a, b, c = widths
        self.reader = Reader()
        first, second = nn.Linear((QUESTIONS + 1) * WIDTH, told), nn.Linear(told, told)
        self.tell = nn.Sequential(first, nn.SiLU(), second, nn.SiLU())
        self.enter = nn.Conv2d(CHANNELS, a, 3, padding=1)
        self.places_fine = nn.Parameter(torch.randn(a, SIDE, SIDE) * 0.1)
        self.places = nn.Parameter(torch.randn(b, SIDE // 2, SIDE // 2) * 0.1)
        self.draft = nn.Linear(told, (b // 4) * (SIDE // 2) ** 2)
        self.draft_in = nn.Conv2d(b // 4, b, 1)
        self.draft_coarse = nn.Linear(told, c * (SIDE // 4) ** 2 // 4)
        self.draft_coarse_in = nn.Conv2d(c // 4, c, 1)
        self.fine_1 = Block(a, a, told)
        self.down_1 = nn.Conv2d(a, b, 2, stride=2)
        self.mid_1 = Block(b, b, told)
        self.down_2 = nn.Conv2d(b, c, 2, stride=2)
        self.coarse_1, self.coarse_2 = Block(c, c, told), Block(c, c, told)
        self.up_2 = nn.Conv2d(c, b, 1)
        self.mid_2, self.mid_3 = Block(b, b, told), Block(b, b, told)
        self.up_1 = nn.Conv2d(b, a, 1)
        self.fine_2, self.fine_3 = Block(a, a, told), Block(a, a, told)
        self.leave_norm = nn.GroupNorm(8, a)
        self.leave = nn.Conv2d(a, CHANNELS, 3, padding=1)

    def forward(self, sample: Tensor, time: Tensor, text: Tensor) -> Tensor:
        told = self.tell(torch.cat([self.reader(text).flatten(1), time], dim=1))
        fine = self.fine_1(self.enter(sample) + self.places_fine, told)
        draft = self.draft(told).unflatten(1, (-1, SIDE // 2, SIDE // 2))
        mid = self.mid_1(self.down_1(fine) + self.places + self.draft_in(draft), told)
        draft = self.draft_coarse(told).unflatten(1, (-1, SIDE // 4, SIDE // 4))
        coarse = self.down_2(mid) + self.draft_coarse_in(draft)
        coarse = self.coarse_2(self.coarse_1(coarse, told), told)
        mid = mid + functional.interpolate(self.up_2(coarse), scale_factor=2.0, mode="nearest")
        mid = self.mid_3(self.mid_2(mid, told), told)
        fine = fine + functional.interpolate(self.up_1(mid), scale_factor=2.0, mode="nearest")
        fine = self.fine_3(self.fine_2(fine, told), told)
        return self.leave(functional.silu(self.leave_norm(fine)))


class Decoder(nn.Module):
    """float32[n, 4, 16, 16] of deviation 1 to float32[n, 3, 128, 128], about [−1, 1].

    It sees a latent with its contrast evened out, and says for each pixel how much of which neighbouring
    place's mean colour to add to the smoothly enlarged ones. So it learns outlines once, and not for every
    two colours.
    """

    def __init__(self, widths: tuple[int, int, int] = (96, 48, 32)) -> None:
        super().__init__()
        a, b, c = widths
        self.plain = nn.Conv2d(CHANNELS, 3, 1)
        self.enter = nn.Conv2d(CHANNELS, a, 3, padding=1)
        self.deep = nn.ModuleList(nn.Conv2d(a, a, 3, padding=1) for _ in range(4))
        self.up_1, self.up_2 = nn.Conv2d(a, 4 * b, 1), nn.Conv2d(b, 4 * c, 1)
        self.conv_1, self.conv_2 = nn.Conv2d(b, b, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.leave = nn.Conv2d(c, 4 * len(_AROUND), 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        weight, bias = plain_colours()
        self.plain.weight.data = torch.from_numpy(weight)[:, :, None, None]
        self.plain.bias.data = torch.from_numpy(bias)

    def forward(self, latent: Tensor) -> Tensor:
        colours = _flattened(self.plain(latent))
        smooth = functional.interpolate(colours, scale_factor=float(BLOCK), mode="bilinear")
        padded = functional.pad(colours, (1, 1, 1, 1), mode="replicate")
        others = [padded[:, :, y : y + SIDE, x : x + SIDE] - colours for y, x in _AROUND]
        # Of each place: [pixels, neighbours] · [neighbours, colours].
        to_add = torch.stack(others, dim=1).permute(0, 3, 4, 1, 2)
        weights = functional.pixel_unshuffle(self._weights(_evened(latent)), BLOCK)
        weights = weights.unflatten(1, (len(_AROUND), -1)).permute(0, 3, 4, 2, 1)
        added = (weights @ to_add).permute(0, 4, 3, 1, 2).flatten(1, 2)
        return smooth + functional.pixel_shuffle(added, BLOCK)

    def _weights(self, x: Tensor) -> Tensor:
        """float32[n, 8, 128, 128]: for every pixel, of the eight places around its own."""
        x = self.enter(x)
        for first, second in zip(self.deep[::2], self.deep[1::2], strict=True):
            x = x + second(functional.silu(first(functional.silu(x))))
        x = functional.silu(functional.pixel_shuffle(self.up_1(functional.silu(x)), 2))
        x = x + self.conv_1(x)
        x = functional.silu(functional.pixel_shuffle(self.up_2(functional.silu(x)), 2))
        x = x + self.conv_2(x)
        weights: Tensor = functional.pixel_shuffle(self.leave(functional.silu(x)), 2)
        return weights


def _flattened(colours: Tensor) -> Tensor:
    """Each place's colour, averaged with whatever others in the picture are nearly like it.

    float32[n, 3, 16, 16] to the same. A UNet's colours waver from place to place, and eyes see that before
    anything else; outlines hardly change, because a place on one is only averaged with such as it.
    """
    rows = colours.flatten(2).transpose(1, 2)
    near = 2 * rows @ rows.transpose(1, 2) - rows.square().sum(-1)[:, None]
    weights = torch.softmax(near / (2 * ALIKE**2), dim=-1)
    return (weights @ rows).transpose(1, 2).unflatten(2, (SIDE, SIDE))


def _evened(latent: Tensor) -> Tensor:
    """Each channel with mean 0 and deviation 1 over the picture; what hardly varies stays faint."""
    centred = latent - latent.mean((2, 3), keepdim=True)
    deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
    return centred / (deviation + FAINT)
