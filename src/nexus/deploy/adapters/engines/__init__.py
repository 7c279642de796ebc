"""The engines inside replicas; their table is `deploy.core.engines.ENGINES`."""
