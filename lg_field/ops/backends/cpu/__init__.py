"""The fused CPU kernel (chain.cpp, products.h): how it is built, called, and offered as a backend."""

from lg_field.ops.backends.cpu.kernel import SWITCH as SWITCH
from lg_field.ops.backends.cpu.kernel import FusedCpu as FusedCpu
