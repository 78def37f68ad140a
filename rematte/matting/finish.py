"""Changes the edges, alpha and colours of mattes before outputs are rendered."""

from dataclasses import dataclass

import numpy as np

from rematte.engines.kernels import alpha_shape
from rematte.engines.kernels.blur_fusion import Edges, estimate, lay_edges
from rematte.engines.kernels.guided_filter import Floats
from rematte.matting.masks import Masks
from rematte.matting.matte import Matted
from rematte.matting.person import Person
from rematte.video.frame import Pixels
from rematte.video.pixels import with_depth

_SCREENS = {"green": 1, "blue": 2}  # their channels


@dataclass(frozen=True)
class Finish:
    """Applies a conversion's edge, alpha and colour options to each matte.

    By default it changes nothing. Results for a frame are shared by all outputs.

    Attributes:
        clean: Whether the background's colours are removed from edges; otherwise edges
            keep the network's colours.
        black_point: Alpha up to this becomes 0.
        white_point: Alpha from this on becomes 1.
        grow: How far edges are moved outward, or inward if it is negative [pixels].
        feather: How far edges fade to both sides [pixels].
        despill: The screen whose tint is removed from the person: "green" or "blue".
        include: Masks of what is always cut out, with the source's colours.
        exclude: Masks of what is never cut out.
        chosen: The only person who is cut out; None for everybody.
        outline: Width of a line around the cut-out [pixels]; 0 for none.
        light_wrap: How strongly a background's light spills over edges, in [0, 1].
    """

    clean: bool = False
    black_point: float = 0.0
    white_point: float = 1.0
    grow: float = 0.0
    feather: float = 0.0
    despill: str | None = None
    include: Masks | None = None
    exclude: Masks | None = None
    chosen: Person | None = None
    outline: float = 0.0
    light_wrap: float = 0.0

    @property
    def reshapes(self) -> bool:
        """Whether alpha is changed."""
        points = self.black_point, self.white_point
        shaped = (*points, self.grow, self.feather, self.outline) != (0, 1, 0, 0, 0)
        return shaped or bool(self.include or self.exclude or self.chosen)

    @property
    def timed(self) -> bool:
        """Whether masks change with time."""
        return any(masks.timed for masks in (self.include, self.exclude) if masks)

    def alpha(self, matted: Matted) -> Pixels:
        """Return the alpha of a frame as outputs show it, (H, W, 1), 16 bits.

        It includes the outline; `inner` does not.
        """
        if not self.reshapes:
            return _network_alpha(matted)
        if "alpha" not in matted.cache:
            matted.cache["alpha"] = self._reshape(matted)
        alpha: Pixels = matted.cache["alpha"]
        return alpha

    def inner(self, matted: Matted) -> Pixels:
        """Return the alpha of what lies within the outline, (H, W, 1), 16 bits."""
        alpha = self.alpha(matted)
        inner: Pixels = matted.cache["inner"] if self.outline else alpha
        return inner

    def _reshape(self, matted: Matted) -> Pixels:
        seen = _network_alpha(matted)
        alpha = alpha_shape.set_levels(seen[..., 0], self.black_point, self.white_point)
        if self.chosen and (person := self.chosen.mask(matted, seen)) is not None:
            alpha = alpha * person
        if self.include and (always := self.include.at(matted.frame)) is not None:
            alpha = np.maximum(alpha, always)
            matted.cache["always"] = always
        if self.exclude and (never := self.exclude.at(matted.frame)) is not None:
            alpha = np.minimum(alpha, 1 - never)
        if self.grow:
            alpha = alpha_shape.grow(alpha, self.grow)
        if self.feather:
            alpha = alpha_shape.feather(alpha, self.feather)
        shaped = _hidden(matted, alpha)
        if self.outline:
            matted.cache["inner"] = shaped
            # Hair would make a ragged line, so the shape is smoothed and made firm.
            smooth = alpha_shape.feather(alpha, self.outline)
            firm = np.clip((smooth - np.float32(0.4)) * self.outline + 0.5, 0, 1)
            firm = firm.astype(np.float32)
            line = alpha_shape.grow(firm, self.outline)
            shaped = np.maximum(shaped, _hidden(matted, line))
        return shaped

    def clean_edges(
        self,
        matted: Matted,
        pixels: Pixels,
        behind: Pixels | None = None,
        original: bool = False,
    ) -> None:
        """Clean the colours of edges in place, if the options ask for it.

        `pixels` are (H, W, 3 or 4), straight or a composite over `behind`; with
        `original` they are in the encoding of a source that is not SDR.
        """
        if not self.clean:
            return
        if pixels.shape[2] == 4 and not self.reshapes:  # alpha need not be made again
            unit = np.uint16(257 if pixels.itemsize == 1 else 1)
            matted.cache.setdefault("network alpha", pixels[..., 3:] * unit)
        name = "edges of the original" if original else "edges"
        if name not in matted.cache:
            # How far alpha can be above 0 where the network's is 0.
            beyond = int(np.ceil(max(self.grow, 0) + self.feather))
            source, seen = _source(matted, original), _network_alpha(matted)
            matted.cache[name] = estimate(source, seen, matted.frame.alpha, beyond)
        edges: Edges = matted.cache[name]
        lay_edges(edges, pixels, behind)

    def show_included(
        self, matted: Matted, pixels: Pixels, original: bool = False
    ) -> None:
        """Set straight colours within `include` to the source's, as in `clean_edges`.

        `alpha` was called before.
        """
        share = matted.cache.get("always")
        if share is None:
            return
        source = _source(matted, original)
        some = share > 0
        if pixels.shape[2] == 4:  # what is hidden stays black
            some &= pixels[..., 3] > 0
        part = share[some][:, None]
        shown = with_depth(source, pixels.itemsize == 2)[some]
        mixed = pixels[some][:, :3] * (1 - part) + shown * part
        pixels[some, :3] = np.round(mixed).astype(pixels.dtype)

    def remove_tint(self, pixels: Pixels) -> None:
        """Remove the tint of the screen from straight colours, (H, W, 3 or 4)."""
        if self.despill is not None:
            alpha_shape.despill(pixels, _SCREENS[self.despill])


def _source(matted: Matted, original: bool) -> Pixels:
    """Return the frame's pixels, or those in the encoding of a source not in SDR."""
    source = matted.frame.original if original else matted.frame.pixels
    assert source is not None  # the reader gives it for what is not SDR
    return source


def _hidden(matted: Matted, alpha: Floats) -> Pixels:
    """Return alpha, (H, W, 1), 16 bits, limited by the source's own alpha."""
    shaped: Pixels = np.round(alpha * 65535).astype(np.uint16)[..., None]
    own = matted.frame.alpha
    if own is not None:
        shaped = np.minimum(shaped, own * np.uint16(257 if own.itemsize == 1 else 1))
    return shaped


def _network_alpha(matted: Matted) -> Pixels:
    """Return the network's alpha, (H, W, 1), 16 bits."""
    if "network alpha" not in matted.cache:
        matted.cache["network alpha"] = matted.pixels("alpha", True)
    alpha: Pixels = matted.cache["network alpha"]
    return alpha
