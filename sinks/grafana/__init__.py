"""Grafana over the views of ClickHouse: a provisioned data source, and dashboards made from Python and checked in."""
