"""Grafana's dashboards over the history: built in Python, pushed over HTTP or exported as files."""
