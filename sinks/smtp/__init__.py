"""Deliver mail over SMTP: the queue owner with its journal, and the MTA session that carries each message."""
