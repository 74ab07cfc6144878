#!/bin/bash
# Becomes PID 1 of the box: builds a root of its own inside the fresh namespaces, then executes systemd.
# Arguments: an empty work directory, and a directory of the host to be seen as /mnt/box in there.
set -eu
work=$1
share=$2
root=$work/root

mount -t tmpfs -o mode=755 box "$work"
mkdir "$work/up" "$work/wk" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/up,workdir=$work/wk" "$root"

mount -t proc proc "$root/proc"
# Without this, systemd-sysctl would change settings of the whole kernel, not of the box.
for part in sys sysrq-trigger; do
    [ -e "$root/proc/$part" ] || continue
    mount --bind "$root/proc/$part" "$root/proc/$part"
    mount -o remount,bind,ro "$root/proc/$part"
done
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in run tmp dev srv; do
    mkdir -p "$root/$place"
    mount -t tmpfs -o mode=755 "box-$place" "$root/$place"
done
chmod 1777 "$root/tmp"

for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 box-shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

mkdir -p "$root/mnt/box"
mount --bind "$share" "$root/mnt/box"
: > "$root/etc/machine-id"
echo syncd-box > "$root/etc/hostname"
# Only what a service needs: nothing that the image would start by itself.
mkdir -p "$root/run/systemd/system"
cat > "$root/run/systemd/system/box.target" <<'UNIT'
[Unit]
Requires=basic.target
Wants=dbus.service systemd-journald.service
After=basic.target
AllowIsolate=yes
UNIT
# These would reach through to the host's kernel or disks.
for unit in systemd-modules-load systemd-udevd systemd-sysctl lvm2-monitor blk-availability; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done

ip link set lo up
mkdir "$root/oldroot"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
# Without this LoadCredential= fails: the service would not see the mount that holds its credentials.
mount --make-rshared /
exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=box.target --log-target=journal --show-status=0
