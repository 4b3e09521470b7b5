"""Pools of replicas: scheduling, scaling, losses, caching. Never the steps that use them."""
