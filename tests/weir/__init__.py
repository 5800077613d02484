"""Tests of what every part shares, and of the `weir` command."""
