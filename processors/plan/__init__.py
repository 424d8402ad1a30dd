"""plan: turn a send that upstream asked for into an accepted message on the lane of its destination, or say why not."""
