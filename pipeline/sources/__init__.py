"""Where things come in from outside. A source says yes only after Kafka has acked what it took."""
