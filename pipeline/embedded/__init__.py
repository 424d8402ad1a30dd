"""The stack on one machine without Docker: real Kafka, ClickHouse in process, children that never outlive us."""
