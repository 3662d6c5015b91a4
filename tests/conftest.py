"""Settings of all tests: shapes and types of lg_field's functions are checked, hypothesis has no clock, few threads."""

import os
import sys

import hypothesis
import torch
from jaxtyping import install_import_hook

assert "lg_field" not in sys.modules, "something imported lg_field before its types could be checked"
install_import_hook("lg_field", "typecheck.checked")

hypothesis.settings.register_profile("lg-field", deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.load_profile("lg-field")
if "PYTEST_XDIST_WORKER" in os.environ:  # processes of several threads at a time keep each other waiting
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, too
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
