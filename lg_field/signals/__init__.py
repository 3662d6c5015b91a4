"""Signals: files of pixels or samples on one side, values on a regular grid on the other."""

from lg_field.signals.data import SignalData as SignalData
from lg_field.signals.data import read_signal as read_signal
from lg_field.signals.decode import decode as decode
