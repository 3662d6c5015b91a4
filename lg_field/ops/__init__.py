"""The Local-Global chain as one operation on points sorted by row. Takes tensors and offsets, never a grid."""

from lg_field.ops.activations import activation_names as activation_names
from lg_field.ops.chain import local_global_chain as local_global_chain
from lg_field.ops.gradients import accumulate_gradients as accumulate_gradients
from lg_field.ops.sizes import ChainSizes as ChainSizes
from lg_field.ops.sorting import RowSort as RowSort
from lg_field.ops.sorting import sort_by_row as sort_by_row
