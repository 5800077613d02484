"""What every part of Weir shares: the records on the topics, subjects, settings and the `weir` command."""

__version__ = "0.1.0"
