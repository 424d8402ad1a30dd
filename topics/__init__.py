"""Where events live: one declaration per topic, creation, consumer loops, partition state, views, dead letters."""
