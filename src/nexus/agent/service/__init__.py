"""The agent's loops: hear what should be, say what is, keep tasks running, ship what they wrote."""

from nexus.agent.service.agent import Agent as Agent
