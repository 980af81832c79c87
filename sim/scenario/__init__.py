"""Files to frozen data: Kubernetes manifests, nginx.conf, haproxy.cfg and the Scenario document."""

from sim.scenario.scenario import from_documents, load, load_one

__all__ = ["from_documents", "load", "load_one"]
