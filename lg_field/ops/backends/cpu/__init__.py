"""The CPU kernels: the chain (chain.cpp), offered as a backend, and what surrounds it in a radiance field: marching
(march.cpp), inputs of the chain (encode.cpp) and shading (shade.cpp). How they are built and called."""

from lg_field.ops.backends.cpu.kernel import SWITCH as SWITCH
from lg_field.ops.backends.cpu.kernel import FusedCpu as FusedCpu
