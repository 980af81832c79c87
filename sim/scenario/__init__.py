"""Files to frozen data: Kubernetes manifests, nginx.conf, haproxy.cfg and the Scenario document."""

from sim.scenario.scenario import load, load_one

__all__ = ["load", "load_one"]
