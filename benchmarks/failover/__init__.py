"""How fast a plan of many machines is failed over, beside its critical path."""
