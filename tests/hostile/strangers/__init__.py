"""What strangers made, and every command that reads it: each trick is played on each command."""
