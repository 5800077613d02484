"""Tests of Grafana's dashboards: queries on ClickHouse's engine, JSON by Grafana's schema, the push over HTTP."""
