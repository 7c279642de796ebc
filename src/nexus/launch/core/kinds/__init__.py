"""The kinds of job that Launch itself knows; others plug in through `nexus.launch.core.jobkind.KINDS`."""
