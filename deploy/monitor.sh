#!/usr/bin/env bash
# Prometheus, and Grafana if it is installed, for what raydub runs on this machine. MONITOR_PORT is Prometheus's port.
#   deploy/monitor.sh [HOST:PORT of a service without Ray (ray.mode=inline)]
# MONITOR_DATA is a folder for what they keep; without it they forget everything at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export MONITOR_PORT=${MONITOR_PORT:-9090} MONITOR_DASHBOARDS

command -v prometheus >/dev/null || {
  echo "Prometheus must be installed: apt-get install prometheus, or https://prometheus.io/download" >&2
  exit 1
}
work=$(mktemp -d)
data=${MONITOR_DATA:-$work}

tidy() {
  trap '' INT TERM # make passes on the signal that the terminal sent already
  kill $(jobs -p) 2>/dev/null || true
  wait || true
  rm -rf "$work"
}
trap tidy EXIT
trap 'trap "" INT TERM; exit 143' INT TERM

cp "$here"/prometheus/*.yml "$work"
if (($#)); then
  echo "[{\"targets\": [\"$1\"]}]" >"$work/inline.json"
fi
mkdir "$work/dashboards"
cp "$here/grafana.json" "$work/dashboards"
MONITOR_DASHBOARDS=$work/dashboards

prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$data/prometheus" \
  --web.listen-address="127.0.0.1:$MONITOR_PORT" --log.level=warn &
echo "Prometheus: http://localhost:$MONITOR_PORT"
if command -v grafana >/dev/null; then
  GF_PATHS_DATA=$data/grafana GF_PATHS_PROVISIONING=$here/grafana GF_SERVER_HTTP_ADDR=127.0.0.1 \
    GF_ANALYTICS_REPORTING_ENABLED=false grafana server --homepath "${GRAFANA_HOME:-/usr/share/grafana}" &
  echo "Grafana: http://localhost:3000"
else
  echo "Grafana is not installed: https://grafana.com/grafana/download; the service has a dashboard of its own at /dashboard"
fi
wait -n
