"""Settings of all tests: hypothesis without a clock (the machine may be busy), two threads."""

import hypothesis
import torch

hypothesis.settings.register_profile("lg-field", deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.load_profile("lg-field")
torch.set_num_threads(2)
