"""The demo: a real fleet on this machine, a stolen login, the block on all hosts, and the figures."""
