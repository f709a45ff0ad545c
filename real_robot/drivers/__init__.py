"""Drivers: one file per vendor, each with a class `Driver` and a function `emergency_stop`."""
