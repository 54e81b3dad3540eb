"""HTTPS for providers: enrolment, token, events, reports, inventory, heartbeat."""
