"""What stands between a command and a motor: stages that judge it, and a motion that can stop."""
