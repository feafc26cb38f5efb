"""Measured steps -> the few constants of an engine's calibration."""
