#!/bin/sh
# Runs core and a gateway with one location on a machine with WireGuard, lets them rest, and prints
# what memory they hold: lines "rest PROGRAM KIBIBYTES".
set -e
core="core-bin --dir /root/core"
gateway="gateway-bin --dir /root/gateway"
trap 'code=$?; [ $code = 0 ] || cat /root/*.log >&2; exit $code' EXIT

$core init --url https://127.0.0.1:8443/ >init.log 2>&1
$core serve >core.log 2>&1 &
core_pid=$!
until $core health >/dev/null 2>&1; do sleep 0.5; kill -0 $core_pid; done
$core location add paris --endpoint 192.0.2.1:51820 --address 10.1.0.1/24 --mfa on >>init.log 2>&1
enroll=$($core --json gateway token paris gw1 | sed -n 's/.*"command": *"\([^"]*\)".*/\1/p')
$gateway ${enroll#gateway-bin } >>init.log 2>&1
$gateway run >gateway.log 2>&1 &
gateway_pid=$!
until wg show interfaces | grep -q .; do sleep 0.5; kill -0 $gateway_pid; done
sleep 40
echo "rest core-bin $(awk '/^VmRSS/ {print $2}' /proc/$core_pid/status)"
echo "rest gateway-bin $(awk '/^VmRSS/ {print $2}' /proc/$gateway_pid/status)"
