"""What runs in other interpreters: arms whose libraries cannot live in the daemon's."""
