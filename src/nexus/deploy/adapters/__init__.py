"""The world: the gateway, the engines inside replicas, bundled models."""
