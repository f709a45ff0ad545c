"""What is tested with: arms without hardware, judges of motion, and a suite for drivers."""
