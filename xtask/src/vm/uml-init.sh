#!/bin/sh
# The first process of the time-travelling machine. Its root is the host's, read-only; $SCRATCH is
# a directory of the host where the machine may write, and $KEEP names directories of the host
# that the memory file systems on /tmp and /run would hide.
export PATH=/run/files:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/tmp TERM=dumb NO_COLOR=1 WG_COLOR_MODE=never LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
for place in /dev/shm /run /tmp; do mount -t tmpfs tmpfs "$place"; done
chmod 1777 /tmp /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || ln -s /proc/self/fd/0 /dev/stdin
[ -e /dev/stdout ] || ln -s /proc/self/fd/1 /dev/stdout
[ -e /dev/stderr ] || ln -s /proc/self/fd/2 /dev/stderr
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200

mkdir -p /run/vm /run/files /run/out
mount -t hostfs none /run/vm -o "$SCRATCH"
exec >>/run/vm/console 2>&1
mount -t hostfs none /run/files -o "$SCRATCH/files"
mount -t hostfs none /run/out -o "$SCRATCH/out"
for place in $KEEP; do
    mkdir -p "$place"
    mount -t hostfs none "$place" -o "$place"
done
ip link set lo up
hostname vm

stty -F /dev/ttyS0 raw -echo
cd "$HERE" || cd /
unset SCRATCH KEEP HERE
setsid /run/vm/command </dev/null >/dev/ttyS0 2>&1
code=$?
# Changing the line's settings waits until all that was written has left.
stty -F /dev/ttyS0 raw
echo "wg-mfa-vm: exit $code"
sync
# There may be no init system on the host, but there is a busybox.
busybox poweroff -f
