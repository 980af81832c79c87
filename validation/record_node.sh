# Runs inside a node for $1 seconds and prints one line for each thing that happens there, with its time:
#   rules TIME NAMESPACE/SERVICE=IP:PORT …   after each commit of kube-proxy (nothing is polled)
#   ctr …      containerd's events (container starts and exits carry their own time)
#   have …     routes at the start;  net …  routes and links that appear and go
# The first line is the process id: whoever started this ends it by ending that process's children.
echo "pid $$"
export TZ=UTC
rules() {
  echo "rules $EPOCHREALTIME $(iptables-save -t nat | sed -nE 's/^-A KUBE-SVC-.* --comment "([^ ]+) -> ([0-9.:]+)".*/\1=\2/p' | tr '\n' ' ')"
}
timeout "$1" ctr -n k8s.io events | sed -u 's/^/ctr /' &
timeout "$1" ip -ts -o monitor link route | sed -u 's/^/net /' &
ip -o route show | sed 's/^/have /'
rules
while read -r line; do
  case $line in *"new generation"*iptables-restor*) rules ;; esac
done < <(timeout "$1" nft monitor 2>/dev/null)
wait
