from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_unlearnable import Budget, BudgetError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", Budget(8)),
        ("8", Budget(8)),
        (" LINF : 16 / 255 ", Budget(16)),
        ("linf:8", Budget(8)),
        ("l2:255", Budget(255, "l2")),
        ("l2:127.5", Budget(127.5, "l2")),
        ("8/255:adaptive", Budget(8, visibility="adaptive")),
        ("linf:8:uniform", Budget(8)),
        (4, Budget(4)),
        (Budget(3), Budget(3)),
    ],
)
def test_parse(text, expected):
    assert Budget.parse(text) == expected
    assert Budget.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eight",
        "8/256",
        "l1:8",
        "-8",
        "0",
        "0.03",
        "256",
        "linf:300",
        "nan",
        "l2:255:adaptive",
        "8:hidden",
        0,
        -1,
        1e9,
    ],
)
def test_parse_refuses_and_says_what_it_expected(text):
    with pytest.raises(BudgetError, match=r"got .*expected"):
        Budget.parse(text)


@pytest.mark.parametrize("radius", [0, 0.5, 256, float("nan"), float("inf"), True, "8"])
def test_radius_out_of_range(radius):
    with pytest.raises(BudgetError):
        Budget(radius)


BUDGETS = [Budget(8), Budget(1), Budget(200), Budget(2.7), Budget(255, "l2"), Budget(20, "l2"), Budget(3000, "l2")]
BUDGETS += [Budget(radius, visibility="adaptive") for radius in (8, 1, 200)]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("scale", [0.01, 0.1, 3.0])
def test_quantised_perturbations_stay_in_the_ball_and_in_range(budget, scale):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 9, 7), generator=generator, dtype=torch.uint8).numpy()
    pixels[:5] = 0
    pixels[5:10] = 255
    perturbations = torch.randn((40, 3, 9, 7), generator=generator) * scale
    levels = budget.quantise(perturbations, pixels)
    assert levels.dtype == budget.dtype
    protected = budget.apply(pixels, levels)
    assert np.array_equal(protected.astype(int) - pixels, levels)  # nothing is lost to the range of a pixel
    assert budget.measure(pixels, protected).max() <= budget.radius
    assert budget.contains(pixels, protected).all()


def test_l2_rounding_uses_the_radius():
    """Plain rounding leaves the ball; what is done about it must not give half of it away."""
    budget = Budget(60, "l2")
    pixels = np.full((20, 1, 28, 28), 128, dtype=np.uint8)
    noise = torch.randn((20, 1, 28, 28), generator=torch.Generator().manual_seed(1))
    perturbations = budget.project(noise, torch.full(noise.shape, 128 / 255))
    plain = np.rint(perturbations.numpy() * 255)
    assert (np.sqrt((plain**2).sum(axis=(1, 2, 3))) > 60).any()
    kept = budget.measure(pixels, budget.apply(pixels, budget.quantise(perturbations, pixels)))
    assert (kept <= 60).all()
    assert kept.min() > 55


def test_an_l2_perturbation_below_half_a_level_everywhere_is_not_lost():
    """0.8 levels in 99 values rounded to 1 are too long, and shrunk until they fit they were all gone."""
    pixels = np.full((1, 1, 9, 11), 128, dtype=np.uint8)
    levels = Budget(8, "l2").quantise(torch.full((1, 1, 9, 11), 8 / 255 / math.sqrt(99)), pixels)
    assert Budget(8, "l2").norm_of(levels) == 8
    assert set(np.unique(levels)) == {0, 1}
    assert levels[0, 0].any(axis=0).all()
    assert levels[0, 0].any(axis=1).all()
    thin = Budget(8, "l2").quantise(torch.full((1, 3, 64, 64), 1 / 255 / 16), np.zeros((1, 3, 64, 64), dtype=np.uint8))
    assert thin.sum() == 48  # of the squared length of 12,288 values of a sixteenth


def shapes_and_radii():
    """Perturbations of many kinds, each with pixels of many kinds, as ``(perturbations, pixels, radius)``."""
    rng = np.random.default_rng(0)
    for case in range(150):
        shape = (4, *rng.choice([(1, 9, 11), (3, 8, 8), (1, 28, 28), (3, 16, 20), (1, 5, 3)]))
        radius = float(np.exp(rng.uniform(0, np.log(250)))).__round__(case % 3)
        noise = rng.normal(size=shape)
        kinds = (noise, np.sign(noise), noise**3, noise * (rng.random(shape) < 0.1), np.ones(shape))
        chosen = kinds[case % len(kinds)]
        lengths = np.sqrt((chosen**2).sum(axis=(1, 2, 3), keepdims=True)).clip(1e-9)
        grow = rng.choice([0.3, 1.0, 1.0, 4.0])
        pixels = rng.integers(0, 256, shape).astype(np.uint8) if case % 2 else np.full(shape, 128, dtype=np.uint8)
        pixels[0] = 255 * (case % 4 == 0)
        yield torch.from_numpy(chosen / lengths * radius * grow / 255), pixels, radius


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rounding_holds_for_perturbations_of_every_kind(norm):
    for perturbations, pixels, radius in shapes_and_radii():
        budget = Budget(radius, norm)
        levels = budget.quantise(perturbations, pixels)
        assert budget.norm_of(levels).max() <= radius
        protected = pixels.astype(int) + levels
        assert protected.min() >= 0
        assert protected.max() <= 255
        assert (levels * perturbations.numpy() >= 0).all()  # no sign changes
        again = budget.quantise(torch.from_numpy(levels) / 255, pixels)
        assert np.array_equal(again, levels)
        if norm == "linf":
            limit = math.floor(radius)
            plain = np.clip(np.rint(perturbations.numpy() * 255), -limit, limit)
            assert np.array_equal(levels, np.clip(plain, 0.0 - pixels, 255.0 - pixels))


def test_an_l2_perturbation_keeps_its_length():
    """As far as a further level has room: what is left is less than the smallest step that is still to be had."""
    shares = []
    for perturbations, pixels, radius in shapes_and_radii():
        budget = Budget(radius, "l2")
        levels = np.abs(budget.quantise(perturbations, pixels).astype(int))
        inside = perturbations.numpy() * 255
        inside = inside * np.minimum(1, radius / np.sqrt((inside**2).sum(axis=(1, 2, 3), keepdims=True)).clip(1e-9))
        inside = np.abs(np.clip(inside, np.maximum(-127, 0.0 - pixels), np.minimum(127, 255.0 - pixels)))
        assert (np.abs(levels - inside) < 1 + 1e-6).all()
        wanted = (inside**2).sum(axis=(1, 2, 3))
        left = np.minimum(np.rint(wanted), radius**2) - (levels**2).sum(axis=(1, 2, 3))
        steps = np.where(levels + 1e-4 < inside, 2 * levels + 1, np.inf).min(axis=(1, 2, 3))
        assert ((left < steps) | (left <= 1e-6 * wanted)).all()
        shares.extend(budget.norm_of(levels)[wanted > 25] / np.sqrt(wanted[wanted > 25]))
    assert min(shares) > 0.9
    assert np.mean(shares) > 0.99


def test_limit_keeps_what_is_in_the_ball_already():
    for perturbations, pixels, radius in shapes_and_radii():
        budget = Budget(radius, "l2")
        levels = budget.quantise(perturbations, pixels)
        assert np.array_equal(budget.limit(levels, pixels), levels)
        assert budget.norm_of(budget.limit(levels.astype(np.int16) * 3, pixels)).max() <= radius


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_project_is_inside_and_leaves_what_is_inside(budget):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((10, 3, 6, 6), generator=generator, dtype=torch.float64)
    far = torch.randn((10, 3, 6, 6), generator=generator, dtype=torch.float64) * 20
    near = budget.project(far, images)
    norms = near.abs().flatten(1).amax(1) if budget.norm == "linf" else near.flatten(1).norm(dim=1)
    assert (norms <= budget.epsilon * (1 + 1e-9)).all()
    assert ((images + near) >= 0).all()
    assert ((images + near) <= 1).all()
    torch.testing.assert_close(budget.project(near, images), near)


def test_direction_is_as_long_as_the_radius():
    gradient = torch.randn((4, 1, 5, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(Budget(8).direction(gradient), gradient.sign() * (8 / 255))
    torch.testing.assert_close(
        Budget(51, "l2").direction(gradient).flatten(1).norm(dim=1), torch.full((4,), 51 / 255), rtol=1e-5, atol=0
    )


def test_apply_refuses_a_damaged_store():
    pixels = np.full((1, 1, 4, 4), 100, dtype=np.uint8)
    with pytest.raises(BudgetError, match="damaged"):
        Budget(8).apply(pixels, np.full((1, 1, 4, 4), 9, dtype=np.int8))


def test_negative_levels_are_subtracted():
    """An early tool lost them in a cast to uint8."""
    pixels = np.full((1, 1, 2, 2), 100, dtype=np.uint8)
    assert (Budget(8).apply(pixels, np.full((1, 1, 2, 2), -8, dtype=np.int8)) == 92).all()


def halves() -> np.ndarray:
    """A picture (1, 3, 64, 64) whose left half is smooth and whose right half is noise."""
    pixels = np.full((1, 3, 64, 64), 120, dtype=np.uint8)
    pixels[..., 32:] = np.random.default_rng(0).integers(0, 256, (64, 32), dtype=np.uint8)
    return pixels


def test_an_adaptive_radius_is_a_third_where_the_image_is_smooth_and_whole_in_texture():
    radii = Budget(9, visibility="adaptive").radii(halves())
    assert radii.shape == (1, 1, 64, 64)
    assert (radii[..., :28] == 3).all()
    assert (radii[..., 36:] == 9).mean() > 0.9
    assert (radii >= 3).all()
    assert (radii <= 9).all()


def test_the_adaptive_radius_is_the_published_threshold():
    # A step of 10 levels between two even halves: the steepest weighted slope is 16 sixteenths of it.
    pixels = np.full((1, 1, 16, 16), 100, dtype=np.uint8)
    pixels[..., 8:] = 110
    mean = (19 * 100 + 13 * 110) // 32  # at column 7 the two columns behind the step have 13 of the 32 weights
    threshold = 10 * (mean * 0.0001 + 0.115) + 0.5 - mean * 0.01
    radii = Budget(200, visibility="adaptive").radii(pixels)
    assert radii[0, 0, 8, 7] == pytest.approx(200 * min(1, max(1 / 3, threshold / 3)), abs=1)


def test_large_images_are_judged_as_they_are_looked_at():
    # Grain that averages out on the screen hides nothing.
    grain = np.random.default_rng(0).integers(0, 256, (1, 1, 3840, 96), dtype=np.uint8)
    assert Budget(9, visibility="adaptive").radii(grain[:, :, :600]).mean() > 5
    radii = Budget(9, visibility="adaptive").radii(grain)
    assert radii.shape == grain.shape
    assert radii.mean() < 4


def test_in_an_adaptive_ball_channels_of_other_signs_share_the_radius():
    budget, pixels = Budget(9, visibility="adaptive"), halves()
    opposing = torch.tensor([9.0, 9.0, -9.0]).view(1, 3, 1, 1).expand(pixels.shape) / 255
    levels = budget.quantise(opposing, pixels)
    assert levels[0, :, 10, 10].tolist() == [3, 3, 0]  # brightness first: green and red weigh more than blue
    together = budget.quantise(opposing.abs(), pixels)
    assert together[0, :, 10, 10].tolist() == [3, 3, 3]
    beyond = np.clip(pixels + np.array([3, 3, -1]).reshape(1, 3, 1, 1), 0, 255).astype(np.uint8)
    assert not budget.contains(pixels, beyond).any()


def test_a_change_above_the_radius_of_its_pixel_is_outside_the_budget():
    budget, pixels = Budget(9, visibility="adaptive"), halves()
    change = np.where(np.arange(64) < 32, 3, 0).astype(np.int8) * np.ones_like(pixels, dtype=np.int8)
    assert budget.contains(pixels, budget.apply(pixels, change)).all()
    change[0, 0, 10, 10] = 4
    with pytest.raises(BudgetError, match="linf:9:adaptive"):
        budget.apply(pixels, change)
    with pytest.raises(BudgetError, match="an adaptive budget with the norm 'l2'"):
        Budget(255, "l2", visibility="adaptive")


@pytest.mark.parametrize("radius", [np.int64(8), np.float32(8), np.uint8(8)])
def test_a_radius_of_numpy_is_a_plain_number(radius):
    assert (Budget(radius), str(Budget.parse(radius))) == (Budget(8), "linf:8")
    assert type(Budget(radius).radius) in (int, float)
