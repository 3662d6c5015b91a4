"""The name by which configurations of field file version 1 call `RadianceSizes`: their config.yml holds its path."""

from lg_field.radiance.sizes import RadianceSizes as RadianceShape

__all__ = ["RadianceShape"]
