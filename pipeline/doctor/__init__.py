"""Whether a sending domain is ready to go live: what DNS and Kafka say, against what the configuration needs."""
