"""suppress: from bounces and complaints to the decision that an address gets no more mail."""
