"""The configuration refuses what makes no sense, and shifts are drawn evenly from it."""

import pickle
from collections import Counter

import pytest

from hidiffusion import HiDiffusionConfig, InvalidConfigError, random_shifts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t1_ratio": 1.5}, "t1_ratio is 1.5; it must be between 0 and 1"),
        ({"t2_ratio": -0.1}, "t2_ratio is -0.1"),
        ({"aggressive_ratio": 2}, "aggressive_ratio is 2"),
        ({"control_ratio": 1.01}, "control_ratio is 1.01"),
        ({"native_size": 0}, "native_size is 0"),
        ({"window_grid": 0}, "window_grid is 0; it must be between 1 and 64 or one of native"),
        ({"window_grid": "large"}, "window_grid is 'large'"),
        ({"window_grid": 1.5}, "window_grid is 1.5"),
        ({"extra_window_levels": -1}, "extra_window_levels is -1"),
        ({"extra_window_start": 1.5}, "extra_window_start is 1.5"),
        ({"seed": [1, 2]}, r"seed is \[1, 2\]; give a tuple"),
        ({"seed": ()}, r"seed is \(\)"),
        ({"timesteps": ()}, r"timesteps is \(\)"),
    ],
)
def test_a_bad_setting_is_named(options: dict, message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        HiDiffusionConfig(**options)


def test_configurations_compare_hash_and_travel() -> None:
    config = HiDiffusionConfig(seed=(1, 2), timesteps=(999.0, 499.0))
    assert config == pickle.loads(pickle.dumps(config))
    assert len({config, HiDiffusionConfig(seed=(1, 2), timesteps=(999.0, 499.0))}) == 1


def test_shifts_depend_on_seed_block_and_timestep_alone() -> None:
    def draw(seed: int = 7, block: int = 0, step: int = 0, timestep: float = 981.0) -> int:
        return random_shifts(seed=seed, block=block, step=step, timestep=timestep)

    assert draw(step=0) == draw(step=5)
    for name in ("seed", "block"):
        assert len({draw(**{name: value}) for value in range(40)}) == 4
    assert len({draw(timestep=float(value)) for value in range(40)}) == 4


def test_shifts_are_equally_likely() -> None:
    drawn = Counter(
        random_shifts(seed=seed, block=block, step=0, timestep=float(time))
        for seed in range(10)
        for block in range(10)
        for time in range(0, 1000, 25)
    )
    # 4000 draws: 1000 each, standard deviation 27.
    assert all(abs(drawn[value] - 1000) < 5 * 27 for value in range(4))
