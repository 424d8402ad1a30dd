"""engage: who opened or clicked: a person, a privacy proxy, a prefetch, a security scanner."""
