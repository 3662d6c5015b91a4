"""Networks on the row layout: Local-Global and its two baselines."""

from lg_field.networks.local_global import LocalGlobalNetwork as LocalGlobalNetwork
from lg_field.networks.local_global import local_global_siren as local_global_siren
from lg_field.networks.local_global import siren as siren
from lg_field.networks.local_global import siren_per_partition as siren_per_partition
