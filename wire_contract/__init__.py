"""What crosses the network between the programs: names, models, paths and topics; pydantic only."""
