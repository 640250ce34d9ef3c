#!/usr/bin/env bash
# A master and two workers, each in a network namespace of its own, on one bridge; the second worker is killed in the
# middle. Called inside `unshare -Urnm` (or as root), so that the namespaces vanish with it.
# Arguments: python, folder for the results, suite file. The folder gets run/, master.txt and the workers' messages.
set -euo pipefail
python=$1 out=$2 suite=$3
mount -t tmpfs tmpfs /run && mkdir -p /run/netns
ip link add bridge0 type bridge && ip link set bridge0 up && ip link set lo up
for i in 1 2 3; do
  ip netns add "node$i"
  ip link add "out$i" type veth peer name eth0 netns "node$i"
  ip link set "out$i" master bridge0 up
  ip netns exec "node$i" ip addr add "10.9.0.$i/24" dev eth0
  ip netns exec "node$i" ip link set eth0 up
  ip netns exec "node$i" ip link set lo up
done
at() { local node=$1; shift; exec ip netns exec "node$node" "$@"; }
at 1 "$python" -m tests.support.httpserver --host 10.9.0.1 --port 8080 >"$out/server.txt" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 100); do [ -s "$out/server.txt" ] && break; sleep 0.1; done
at 2 "$python" -m dbperf load --worker --master-host 10.9.0.1 --region near 2>"$out/worker2.txt" &
near=$!
at 3 "$python" -m dbperf load --worker --master-host 10.9.0.1 --region far=80ms 2>"$out/worker3.txt" &
far=$!
# As soon as requests of the far one's measured window have been told of. Locust misses a worker after 5 s.
( while ! grep -q '"stage":0,"requests":[^}]*"region":"far"' "$out/run/load.jsonl" 2>/dev/null; do sleep 0.1; done
  kill -9 $far ) &
ip netns exec node1 "$python" -m dbperf load "$suite" --url http://10.9.0.1:8080 --i-know-this-is-not-production --master --workers 2 \
  --out "$out/run" --format json >"$out/master.json" 2>"$out/master.txt"
wait $near
