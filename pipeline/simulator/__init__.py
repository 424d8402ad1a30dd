"""A small internet on one loopback address: DNS, mailbox providers, and the people and machines behind them.

It stands in for the world that mail is sent to. It decides how that world answers (by seed) and keeps its own log of
what it accepted, the witness. It shares nothing with the sending code but the protocols, so that its word counts.
"""
