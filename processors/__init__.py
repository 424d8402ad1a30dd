"""What decides, one folder per verb: `core.py` is pure, `agent.py` wires it to topics."""
