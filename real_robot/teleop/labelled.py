"""Motion from one device, labels from another: a mouse with two buttons has none to spare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from real_robot.teleop.sample import Teleoperator, TeleopSample


class Labelled:
    """Two devices as one. Either one's stop stops, and without either one nothing moves."""

    def __init__(self, motion: Teleoperator, labels: Teleoperator):
        self.motion, self.labels = motion, labels

    def poll(self) -> TeleopSample:
        motion, labels = self.motion.poll(), self.labels.poll()
        both = replace(
            motion,
            success=motion.success or labels.success,
            failure=motion.failure or labels.failure,
            rerecord=motion.rerecord or labels.rerecord,
        )
        if not (labels.stop or labels.lost):
            return both
        return replace(
            both,
            velocity=np.zeros_like(motion.velocity),
            gripper=0.0,
            enable=False,
            lost=motion.lost or labels.lost,
            stop=motion.stop or labels.stop,
        )

    def close(self) -> None:
        self.motion.close()
        self.labels.close()
