"""What a device needs: bundles, preprocessing, sessions, errors, specs."""
