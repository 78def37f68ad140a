#!/usr/bin/env bash
# Expected: Ray with RAY_USAGE_STATS_ENABLED=0 and include_dashboard=False does not query the
# network about where it runs. Actual: it starts a dashboard process for the module
# UsageStatsHead alone, whose run() calls get_cluster_config_to_report() before it checks
# the setting. This queries the metadata services of Azure, Google and AWS
# (169.254.169.254, and a name server for metadata.google.internal).
#
# Linux with user namespaces (util-linux's unshare), no root. The kernel counts in the
# new network namespace what finds no route.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install --quiet 'ray==2.60.0'

cat > "$folder/start.py" <<'PYTHON'
import ray
ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False)
print("ray", ray.__version__, "result", ray.get(ray.remote(lambda: 1).remote()))
import time; time.sleep(8)
ray.shutdown()
PYTHON

cat > "$folder/count.py" <<'PYTHON'
import fcntl, socket, struct, subprocess, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # start loopback
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))
subprocess.run([sys.executable, sys.argv[1]], check=True)
names, values = (l.split() for l in open("/proc/net/snmp") if l.startswith("Ip:"))
count = int(values[names.index("OutNoRoutes")])
print(f"attempts to reach another machine: {count}")
sys.exit(0 if count > 0 else 1)  # 1: the behaviour has changed
PYTHON

cd "$folder"
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef
export TMPDIR="$folder"
unshare --user --map-root-user --net \
    "$folder/venv/bin/python" "$folder/count.py" "$folder/start.py"
