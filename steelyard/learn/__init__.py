"""How a policy learns: plans, curricula, advantages, objectives, the trainer and its runs."""
