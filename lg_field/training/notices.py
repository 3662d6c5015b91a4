"""What a run should say of its settings before it trains."""

from __future__ import annotations

from lg_field.errors import notice
from lg_field.radiance.settings import TrainingSettings
from lg_field.training.methods import METHODS


def say_without_effect(settings: TrainingSettings, contraction: bool) -> None:
    """Say in a line which settings were given that do nothing in the scene at hand.

    Args:
        settings: of the run; values that are some method's own were not given.
        contraction: whether the scene is unbounded.
    """
    usual = [TrainingSettings(), *(method.training for method in METHODS.values())]
    names = settings.without_effect(contraction, usual)
    if names:
        notice(
            f"{', '.join(names)} {'says' if len(names) == 1 else 'say'} something of unbounded scenes alone, and this "
            "one is bounded: nothing changes (space contracted makes it unbounded)"
        )
