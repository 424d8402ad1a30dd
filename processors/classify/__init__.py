"""Find out what a received mail says, and of which message of ours."""
