"""Pure rules that several rooms use: what an SMTP reply means, when a window opens."""
