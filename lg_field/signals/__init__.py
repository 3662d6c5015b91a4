"""Signals: files of pixels or samples on one side, values on a regular grid on the other."""

import lg_field.signals.kinds  # noqa: F401, they register themselves
from lg_field.signals.data import SignalData as SignalData
from lg_field.signals.decode import decode as decode
from lg_field.signals.reading import read_signal as read_signal
