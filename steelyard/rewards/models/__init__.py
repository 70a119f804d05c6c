"""Learned rewards: sequence classifiers as rewards, heads that know how unsure they are, fusion with neighbours."""
