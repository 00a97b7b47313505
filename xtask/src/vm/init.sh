#!/bin/sh
# The first process of the machine: brings it up, runs /vm/command, reports its exit code on the
# console, and ends the machine.
export PATH=/run/files:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root TERM=dumb NO_COLOR=1 WG_COLOR_MODE=never LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
for place in /dev/shm /tmp; do mount -t tmpfs tmpfs "$place"; done
chmod 1777 /tmp /dev/shm
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
while read -r module; do
    insmod "$module" || echo "wg-mfa-vm: cannot load $module"
done </vm/modules
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
hostname vm

stty -F /dev/ttyS1 raw -echo
cd /root
echo "wg-mfa-vm: up after $(cut -d' ' -f1 /proc/uptime) s"
setsid /vm/command </dev/null >/dev/ttyS1 2>&1
code=$?
# Changing the line's settings waits until all that was written has left.
stty -F /dev/ttyS1 raw

if [ -e /dev/vda ]; then
    tar -C /run/out -cf /dev/vda . || echo "wg-mfa-vm: cannot hand out /run/out"
    sync
fi
echo "wg-mfa-vm: exit $code"
reboot -f
