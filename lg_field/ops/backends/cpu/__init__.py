"""The CPU kernels: the chain (chain.cpp), offered as a backend, and what surrounds it in a radiance field: marching
(march.cpp), points beside samples (beside.cpp), inputs of the chain (encode.cpp), shading (shade.cpp), light along
rays (light.cpp), rounds of a picture (rounds.cpp), colours of a mesh (colors.cpp), and Adam (adam.cpp). How they are
built and called."""

from lg_field.ops.backends.cpu.kernel import SWITCH as SWITCH
from lg_field.ops.backends.cpu.kernel import FusedCpu as FusedCpu
