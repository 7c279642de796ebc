"""How many updates become one where some may be bad: one line here and one file for each."""

from __future__ import annotations

from nexus.federate.core.defence import Defence
from nexus.kernel.registry import Registry

DEFENCES: Registry[type[Defence]] = Registry(
    "nexus.defences",
    {
        "median": "nexus.federate.core.defences.median:Median",
        "krum": "nexus.federate.core.defences.krum:Krum",
        "multi_krum": "nexus.federate.core.defences.krum:MultiKrum",
        "bulyan": "nexus.federate.core.defences.bulyan:Bulyan",
        "trimmed_mean": "nexus.federate.core.defences.trimmed_mean:TrimmedMean",
        "geometric_median": "nexus.federate.core.defences.geometric_median:GeometricMedian",
        "norm_clip": "nexus.federate.core.defences.norm_clip:NormClip",
        "centred_clip": "nexus.federate.core.defences.centred_clip:CentredClip",
        "foolsgold": "nexus.federate.core.defences.foolsgold:FoolsGold",
        "crfl": "nexus.federate.core.defences.crfl:Crfl",
        "slsgd": "nexus.federate.core.defences.slsgd:Slsgd",
        "residual": "nexus.federate.core.defences.residual:Residual",
        "robust_lr": "nexus.federate.core.defences.robust_lr:RobustLr",
        "weak_dp": "nexus.federate.core.defences.weak_dp:WeakDp",
        "three_sigma": "nexus.federate.core.defences.three_sigma:ThreeSigma",
        "cross_round": "nexus.federate.core.defences.cross_round:CrossRound",
        "zeno": "nexus.federate.core.defences.zeno:Zeno",
        "fltrust": "nexus.federate.core.defences.fltrust:FlTrust",
    },
)
