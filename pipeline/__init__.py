"""What runs it: settings, roles, the command line, sources of mail and events, the embedded stack, the simulator."""
