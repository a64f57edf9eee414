"""Stand-ins for services, so that everything can be tried without an account."""
