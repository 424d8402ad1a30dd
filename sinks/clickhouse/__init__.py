"""Facts and state changes into ClickHouse, each exactly once; the views over them are the contract (docs/sql.md)."""
