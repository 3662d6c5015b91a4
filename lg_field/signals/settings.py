"""How what is not said about encoding a signal is filled in: from a preset or a task, the kind of signal, and the
general defaults. What can be said is in `signal_settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lg_field.signal_settings import INSTEAD as INSTEAD
from lg_field.signal_settings import CompleteFit as CompleteFit
from lg_field.signal_settings import CompleteNetwork as CompleteNetwork
from lg_field.signal_settings import CompleteSettings as CompleteSettings
from lg_field.signal_settings import CompleteShape as CompleteShape
from lg_field.signal_settings import FitConfig as FitConfig
from lg_field.signal_settings import NetworkConfig as NetworkConfig
from lg_field.signal_settings import Sampling as Sampling
from lg_field.signal_settings import Settings as Settings
from lg_field.signal_settings import ShapeConfig as ShapeConfig
from lg_field.signal_settings import Weights as Weights
from lg_field.signal_settings import filled
from lg_field.signals.registry import kind_named

if TYPE_CHECKING:
    from lg_field.signals.kinds.base import Kind

INCODE = "incode"
"""The activation whose rate is a kind's `incode_rate` times its usual one."""
OF_PLAIN_NETWORKS = ("global_share", "coordinate_step", "center_cells")
"""Defaults of kinds that INCODE, which learns its frequencies, does not have: with them it is worse."""


def resolve(kind: Kind | str, *said: Settings) -> CompleteSettings:
    """Fill in what was not said.

    Args:
        kind: of signal.
        said: settings, the ones that win first: of a command line, then of its preset or task.

    Returns:
        For every entry what the first of `said` says that says something, else the kind's default, else the general
        one. An entry of `INSTEAD` voids what later settings say of those that it replaces.
    """
    network = resolve_network(kind, *(s.network for s in said))
    fit = resolve_fit(kind, *(s.fit for s in said), activation=network.activation)
    return CompleteSettings(network, fit, resolve_shape(*(s.shape for s in said)))


def resolve_fit(kind: Kind | str, *said: FitConfig, activation: str = CompleteNetwork.activation) -> CompleteFit:
    """`resolve` of the part about training, of a network of this activation."""
    if said and isinstance(said[0], CompleteFit):
        return said[0]
    kind = _kind(kind)
    rate = kind.fit.get("lr", CompleteFit.lr) * (kind.incode_rate if activation == INCODE else 1.0)
    return filled(CompleteFit(), said, {**_suiting(kind.fit, activation), "lr": rate})


def resolve_network(kind: Kind | str, *said: NetworkConfig) -> CompleteNetwork:
    """`resolve` of the part about the network."""
    if said and isinstance(said[0], CompleteNetwork):
        return said[0]
    network = _kind(kind).network
    activation = filled(CompleteNetwork(), said, network).activation
    return filled(CompleteNetwork(), said, _suiting(network, activation))


def resolve_shape(*said: ShapeConfig) -> CompleteShape:
    """`resolve` of the part about voxels."""
    if said and isinstance(said[0], CompleteShape):
        return said[0]
    return filled(CompleteShape(), said, {})


def _suiting(defaults: Mapping[str, Any], activation: str) -> dict[str, Any]:
    """Those of a kind's defaults that networks of this activation have."""
    return {name: d for name, d in defaults.items() if not (activation == INCODE and name in OF_PLAIN_NETWORKS)}


def _kind(kind: Kind | str) -> Kind:
    return kind_named(kind) if isinstance(kind, str) else kind
